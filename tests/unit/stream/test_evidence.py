"""Evidence of any source: what it declares about itself decides which clock a run has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bridges import Evidence, EvidenceKind, Knows, MemoryExporter, Run, SourceError
from bridges.exporters.base import Points
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.sources.times.clocks import EVENTS, KINDS, MTIMES
from bridges.stream.clock import SYNTHETIC_ORIGIN, apply_clock, require_clock
from bridges.stream.options import CLOCKS
from tests.support import make_run

START = 1_700_000_000_000_000  # microseconds
GPS = EvidenceKind("gps", Knows.INSTANTS, 5, "times of a satellite")
STOPWATCH = EvidenceKind("stopwatch", Knows.DURATIONS, 15, "a stopwatch")
ROWS = [{"loss": 3.0 - step, "step": step} for step in (1, 2, 3)]


def evidence(kind: EvidenceKind, *seconds: float) -> Evidence:
    """Times of the first rows: instants after `START`, or durations."""
    since = START if kind.knows is Knows.INSTANTS else 0
    time = since + np.array([round(second * 1e6) for second in seconds])
    return Evidence(kind, np.arange(len(seconds)), time, f"the {kind.name} file")


def clock(run: Run, source: str | None = None) -> tuple[str, list[float], list[str]]:
    """The name of the clock, seconds after its start, and the messages."""
    stream, found, notes = apply_clock(run.stream, run.key_rules, run.evidence, source)
    assert stream.time is not None
    since = SYNTHETIC_ORIGIN if found.is_synthetic else START
    seconds = ((stream.time - since) / 1e6).tolist()
    return found.name, seconds, [note.message for note in notes]


@pytest.mark.parametrize(
    ("others", "name", "seconds", "words"),
    [
        ([evidence(EVENTS, 5, 6, 7)], "gps", [1, 2, 4], "times of a satellite"),
        ([evidence(replace(GPS, name="better", rank=4), 5, 6, 7)], "better", [5, 6, 7], ""),
        ([evidence(STOPWATCH, 1, 3, 9)], "gps", [1, 2, 4], "times of a satellite"),
    ],
)
def test_the_rank_of_evidence_decides(
    others: list[Evidence], name: str, seconds: list[float], words: str
) -> None:
    run = make_run(ROWS, evidence=(*others, evidence(GPS, 1, 2, 4)))
    found, times, (message,) = clock(run)
    assert (found, times) == (name, seconds)
    assert words in message


def test_durations_of_a_plug_in_begin_at_the_instants_of_another_source() -> None:
    kind = replace(MTIMES, rank=16)
    run = make_run(ROWS, evidence=(evidence(STOPWATCH, 1, 3, 9), evidence(kind, 101, 103, 109)))
    found, times, (message,) = clock(run)
    assert (found, times) == ("stopwatch from mtimes", [101, 103, 109])
    assert message == (
        "times are from a stopwatch, beginning with times when its checkpoints were saved"
    )


def test_a_clock_of_a_plug_in_can_be_forced_and_asked_for() -> None:
    run = make_run(ROWS, evidence=(evidence(GPS, 1, 2, 4), evidence(STOPWATCH, 1, 3, 9)))
    require_clock("stopwatch", run)
    assert clock(run, "stopwatch")[:2] == ("stopwatch from gps", [-4, -2, 4])
    with pytest.raises(SourceError, match="one of its clocks: gps, stopwatch, synth"):
        require_clock("events", run)


def test_names_and_order_of_the_built_in_clocks_are_those_in_targets() -> None:
    names = ("events", "elapsed", "log", "mtimes", "duration", "synthetic")
    assert tuple(kind.name for kind in KINDS) == names == CLOCKS
    assert [kind.rank for kind in KINDS] == sorted(kind.rank for kind in KINDS)


def export(exporter: MemoryExporter, count: int, *found: Evidence, **fields: Any) -> RunReport:
    """The report of an export of the first rows."""
    return export_run(make_run(ROWS[:count], evidence=found, **fields), exporter, ExportOptions())


def points(exporter: MemoryExporter) -> Points:
    """The points of the loss in the target."""
    (stored,) = exporter.runs.values()
    return exporter.read_back(stored.run).points["loss"]


def test_a_run_with_times_of_a_plug_in_grows_though_its_evidence_is_gone() -> None:
    exporter = MemoryExporter()
    assert export(exporter, 2, evidence(GPS, 1, 2)).status == "exported"
    report = export(exporter, 3)
    assert (report.status, report.verified) == ("appended", True)
    assert (points(exporter).time * 1e6 - START).tolist() == [1e6, 2e6, 3e6]
    (stored,) = exporter.runs.values()
    assert stored.run.state.clock == "gps"


def test_times_that_a_source_gives_to_the_rows_of_a_log_are_its_clock() -> None:
    run = make_run(ROWS)
    stream = replace(run.stream, time=START + np.array([0, 5_000_000, 5_000_000]))
    exporter = MemoryExporter()
    report = export_run(replace(run, stream=stream), exporter, ExportOptions())
    assert report.verified
    assert (points(exporter).time * 1e6 - START).tolist() == [0, 5_000_000, 5_001_000]
    (stored,) = exporter.runs.values()
    assert stored.run.state.clock == "recorded"


def test_an_unknown_style_of_keys_fails_the_run_alone() -> None:
    run = Run("run", make_run(ROWS).stream, "test", key_style="other")
    report = export_run(run, MemoryExporter(), ExportOptions())
    (finding,) = report.findings
    assert finding.message == (
        "test: key_style: found 'other'; expected 'trainer' or 'tags'. This is a bug of the source "
        "that read the run."
    )
