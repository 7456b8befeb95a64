"""Durations in a Trainer's log: `train_runtime` and the runtime of each evaluation.

elapsed    training rows with `train_runtime` (token counting, transformers 4.53 and later)
duration   the summary's `train_runtime`
"""

from __future__ import annotations

import numpy as np

from bridges.stream.model import (
    Evidence,
    EvidenceKind,
    Float64,
    Int64,
    Knows,
    MetricStream,
    RowKind,
)

ELAPSED = EvidenceKind(
    "elapsed", Knows.DURATIONS, 20, "train_runtime in the rows of the log", in_rows=True, least=2
)
DURATION = EvidenceKind(
    "duration",
    Knows.TOTAL,
    50,
    "the duration in the summary row, spread over the steps",
    in_rows=True,
)
LONGEST = 1e300  # seconds; more would overflow as microseconds
LONGEST_EVALUATION = 1e9  # seconds


def durations(stream: MetricStream) -> list[Evidence]:
    """The elapsed seconds of training rows, and the duration in the summary row if it has one."""
    rows, seconds = elapsed_rows(stream)
    found = [Evidence(ELAPSED, rows, np.minimum(seconds, LONGEST) * 1e6, "the log")]
    summary = summary_duration(stream)
    if summary is not None:
        row, duration = summary
        time = np.array([min(duration, LONGEST) * 1e6])
        found.append(Evidence(DURATION, np.array([row], np.int64), time, "the log"))
    return found


def elapsed_rows(stream: MetricStream) -> tuple[Int64, Float64]:
    """The training rows with elapsed seconds of their own, and these."""
    rows, seconds = stream.column("train_runtime")
    if not len(rows):
        return rows, seconds
    keep = (stream.kind[rows] == RowKind.TRAIN) & np.isfinite(seconds) & (seconds >= 0)
    return rows[keep], seconds[keep]


def summary_duration(stream: MetricStream) -> tuple[int, float] | None:
    """Row and duration in seconds of the first summary row that has one."""
    rows, seconds = stream.column("train_runtime")
    if not len(rows):
        return None
    good = (stream.kind[rows] == RowKind.SUMMARY) & np.isfinite(seconds) & (seconds > 0)
    return (int(rows[good][0]), float(seconds[good][0])) if good.any() else None


def eval_seconds(stream: MetricStream) -> Float64:
    """The duration of each row's own evaluation (`*_runtime`), in seconds."""
    seconds = np.zeros(len(stream))
    for key in stream.keys:
        if key.endswith("_runtime") and key != "train_runtime":
            rows, values = stream.column(key)
            good = np.isfinite(values) & (values > 0)
            seconds[rows[good]] += np.minimum(values[good], LONGEST_EVALUATION)
    return seconds
