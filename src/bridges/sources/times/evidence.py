"""Collects the evidence of row times: event files, tool logs, checkpoint mtimes, names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bridges.huggingface.durations import summary_duration
from bridges.sources.times.clocks import EVENTS
from bridges.sources.times.disk import disk_evidence
from bridges.sources.times.events import EventFiles, WantedPoints
from bridges.sources.times.start import start_evidence
from bridges.stream.finding import Finding
from bridges.stream.model import Evidence, Run


def with_evidence(
    run: Run,
    saves: Sequence[tuple[str, int]],
    outputs: Sequence[str],
    logs: Sequence[str],
    events: EventFiles,
    *,
    is_alone: bool,
    max_unpacked: int | None = None,
    fill: bool = False,
) -> Run:
    """The run with the evidence of its times.

    `saves`: its states (location and number of rows); `outputs`: its output directories; `logs`:
    tuning tools' logs there. A run that `is_alone` in them owns event files whose values fit
    several runs. `max_unpacked`: maximum size of an unpacked log in bytes. `fill` adds rows that
    only event files contain.
    """
    paths = events.of(outputs)
    written = None
    if paths:
        owns = is_alone and run.trial is None and events.lie_in(outputs)
        run, written = _with_events(run, events, paths, owns=owns, fill=fill)
    found: list[Evidence] = [*run.evidence, *([written] if written else [])]
    logged, log_findings = _in_log(run, logs, max_unpacked)
    found += [logged] if logged else []
    saved, findings = disk_evidence(run.stream, saves)
    found += [saved] if saved else []
    trained = summary_duration(run.stream)
    begun = start_evidence(
        paths if is_alone else [],
        outputs,
        run.params.get("logging_dir"),
        run.writer,
        trained[1] if trained else None,
    )
    found += [begun] if begun else []
    new = [*([] if written else findings), *log_findings, *_new_findings(events)]
    if not found and not new:
        return run
    return replace(run, evidence=tuple(found), findings=(*run.findings, *new))


def _with_events(
    run: Run, events: EventFiles, paths: Sequence[str], *, owns: bool, fill: bool
) -> tuple[Run, Evidence | None]:
    """The run, compared with its event files, and the times of its rows in these files."""
    from bridges.sources.times.event_points import with_event_rows

    run = events.in_logged_order(run, paths)
    wanted = WantedPoints.of(run.stream)
    written = events.evidence(wanted, paths)
    files = events.live(wanted, paths, is_alone=owns)
    if not files:
        return run, written
    nothing = np.empty(0, np.int64)
    known = written or Evidence(EVENTS, nothing, nothing, paths[0])
    filled = with_event_rows(run, files, wanted, known, fill=fill)
    if len(filled.stream) != len(run.stream):
        written = events.evidence(WantedPoints.of(filled.stream), paths)
    return filled, written


def _in_log(
    run: Run, logs: Sequence[str], max_unpacked: int | None
) -> tuple[Evidence | None, list[Finding]]:
    """The times of the rows in the first of these logs, and the findings about it."""
    if not logs:
        return None, []
    from bridges.sources.tuning_logs.times import log_evidence

    return log_evidence(logs[0], run.stream, max_unpacked)


def _new_findings(events: EventFiles) -> list[Finding]:
    """The findings about event files, each reported by one run only."""
    findings = events.findings
    events.findings = []
    return findings
