"""Times rise strictly, come from the log alone, and do not move when the log grows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.huggingface.durations import elapsed_rows, summary_duration
from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.sources.times.clocks import IN_ROWS, START
from bridges.stream.clock import SYNTHETIC_ORIGIN, apply_clock
from bridges.stream.model import Evidence, EvidenceKind, MetricStream
from tests.property.histories import Rows, odd_rows, usual_rows
from tests.support import make_stream


def begins(origin: int) -> Evidence:
    return evidence(START, {}, start=origin)


def evidence(
    kind: EvidenceKind, times: dict[int, int], start: int | None = None, note: str = ""
) -> Evidence:
    """What tells the times (microseconds) of these rows."""
    rows, time = np.array([*times], np.int64), np.array([*times.values()], np.int64)
    return Evidence(kind, rows, time, f"the {kind.name} file", start, note)


def times(stream: MetricStream, source: str | None = None, origin: int | None = None) -> list[int]:
    timed, _, _ = apply_clock(
        stream, TRAINER_RULES, [] if origin is None else [begins(origin)], source
    )
    assert timed.time is not None
    assert timed.time.dtype == np.int64
    return list(timed.time.tolist())


@given(odd_rows(), st.sampled_from(sorted(IN_ROWS)), st.integers(0, 2**52))
def test_times_rise_strictly_whatever_the_log_holds(rows: Rows, source: str, origin: int) -> None:
    found = times(make_stream(rows), source, origin)
    assert len(found) == len(rows)
    assert all(low // 1000 < high // 1000 for low, high in pairwise(found))  # whole milliseconds
    assert source == "synthetic" or all(time >= origin for time in found)


@given(odd_rows(), st.sampled_from(["elapsed", "synthetic"]), st.integers(0, 12))
def test_a_longer_log_keeps_the_times_of_its_beginning(rows: Rows, source: str, cut: int) -> None:
    assert times(make_stream(rows), source)[:cut] == times(make_stream(rows[:cut]), source)


@given(usual_rows(), st.integers(0, 5))
def test_a_longer_log_keeps_the_times_of_its_summary(rows: Rows, more: int) -> None:
    stream = make_stream(rows)
    if len(elapsed_rows(stream)[0]) >= 2 or summary_duration(stream) is None:
        return
    last = rows[-1]["step"]
    late = [{"eval_loss": 1.0, "eval_runtime": 2.0, "step": last}] * more
    assert times(make_stream([*rows, *late]), "duration")[: len(rows)] == times(stream)


@given(odd_rows())
def test_nothing_but_the_log_makes_the_times(rows: Rows) -> None:
    assert times(make_stream(rows)) == times(make_stream(rows))


@given(usual_rows(), st.integers(0, 2**42))
def test_the_origin_only_shifts_the_times(rows: Rows, milliseconds: int) -> None:
    stream, origin = make_stream(rows), milliseconds * 1000
    shifted = [time - origin for time in times(stream, origin=origin)]
    assert shifted == [time - SYNTHETIC_ORIGIN for time in times(stream)]


@pytest.mark.parametrize(
    ("rows", "source", "seconds", "said"),
    [
        (
            [{"loss": 1.0, "step": 10}, {"loss": 1.0, "step": 20}],
            "synthetic",
            [10.0, 20.0],
            "the log contains no times, so each step counts as one second",
        ),
        (
            [
                {"loss": 1.0, "train_runtime": 5.25, "step": 1},
                {"eval_loss": 1.0, "eval_runtime": 2.0, "step": 1},
                {"loss": 1.0, "train_runtime": 12.5, "step": 2},
            ],
            "elapsed",
            [5.25, 7.25, 12.5],
            "durations are from train_runtime in the rows of the log",
        ),
        (
            [
                {"loss": 1.0, "train_runtime": 5.0, "step": 1},
                {"loss": 1.0, "train_runtime": 9.0, "step": 2},
                {"loss": 1.0, "train_runtime": 1.0, "step": 3},
            ],
            "elapsed",
            [5.0, 9.0, 10.0],
            "durations are from train_runtime in the rows of the log",
        ),
        (
            [
                {"loss": 1.0, "step": 5},
                {"eval_loss": 1.0, "eval_runtime": 4.0, "step": 5},
                {"loss": 1.0, "step": 10},
                {"train_loss": 1.0, "total_flos": 1.0, "train_runtime": 24.0, "step": 10},
                {"eval_loss": 1.0, "eval_runtime": 3.0, "step": 10},
            ],
            "duration",
            [10.0, 14.0, 24.0, 24.001, 27.0],
            "durations are from the duration in the summary row, spread over the steps",
        ),
    ],
    ids=["nothing", "token counting", "token counting, resumed", "summary"],
)
def test_the_best_source_of_a_log(rows: Rows, source: str, seconds: list[float], said: str) -> None:
    timed, clock, findings = apply_clock(make_stream(rows), TRAINER_RULES)
    assert timed.time is not None
    assert ((timed.time - SYNTHETIC_ORIGIN) / 1e6).tolist() == seconds
    assert (clock.source, clock.origin, clock.is_synthetic) == (source, "synthetic", True)
    assert (clock.start, clock.end) == (SYNTHETIC_ORIGIN, int(timed.time[-1]))
    assert [(finding.code, finding.message) for finding in findings] == [
        ("clock-synthetic", f"times are synthetic and start on 2000-01-01: {said}")
    ]


def test_a_known_start_is_no_synthetic_clock() -> None:
    _, clock, findings = apply_clock(
        make_stream([{"loss": 1.0, "step": 1}]), TRAINER_RULES, [begins(17)]
    )
    assert (clock.name, clock.is_synthetic) == ("synthetic from start", False)
    assert [finding.code for finding in findings] == ["clock-source"]


def test_an_empty_log_has_an_empty_clock() -> None:
    for source in (None, *IN_ROWS):
        timed, clock, _ = apply_clock(make_stream([]), TRAINER_RULES, source=source)
        assert timed.time is not None
        assert len(timed.time) == 0
        assert clock.start == clock.end == SYNTHETIC_ORIGIN


def test_absurd_durations_do_not_overflow() -> None:
    rows = [
        {"loss": 1.0, "train_runtime": 1e300, "step": 1},
        {"loss": 1.0, "train_runtime": 1e308, "step": 2**63 - 1},
        {"loss": 1.0, "train_runtime": 1.0, "step": -(2**63)},
        {"train_loss": 1.0, "total_flos": 1.0, "train_runtime": 1e308, "step": 2**63 - 1},
    ]
    for source in IN_ROWS:
        found = times(make_stream(rows), source)
        assert all(low < high for low, high in pairwise(found))
