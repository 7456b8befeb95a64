"""Durations in a Trainer's log: `train_runtime` and the runtime of each evaluation.

elapsed    `train_runtime` in training rows (with token counting, transformers 4.53 and later)
duration   `train_runtime` in the summary row
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
MAX_SECONDS = 1e300  # more would overflow as microseconds
MAX_EVALUATION_SECONDS = 1e9


def durations(stream: MetricStream) -> list[Evidence]:
    """Evidence from the log: elapsed times of training rows, and the summary row's duration."""
    rows, seconds = elapsed_rows(stream)
    found = [Evidence(ELAPSED, rows, np.minimum(seconds, MAX_SECONDS) * 1e6, "the log")]
    summary = summary_duration(stream)
    if summary is not None:
        row, duration = summary
        time = np.array([min(duration, MAX_SECONDS) * 1e6])
        found.append(Evidence(DURATION, np.array([row], np.int64), time, "the log"))
    return found


def elapsed_rows(stream: MetricStream) -> tuple[Int64, Float64]:
    """The training rows with `train_runtime`, and its value in seconds."""
    rows, seconds = stream.column("train_runtime")
    if not len(rows):
        return rows, seconds
    keep = (stream.kind[rows] == RowKind.TRAIN) & np.isfinite(seconds) & (seconds >= 0)
    return rows[keep], seconds[keep]


def summary_duration(stream: MetricStream) -> tuple[int, float] | None:
    """Row and duration (seconds) of the first summary row with a duration."""
    rows, seconds = stream.column("train_runtime")
    if not len(rows):
        return None
    good = (stream.kind[rows] == RowKind.SUMMARY) & np.isfinite(seconds) & (seconds > 0)
    return (int(rows[good][0]), float(seconds[good][0])) if good.any() else None


def eval_seconds(stream: MetricStream) -> Float64:
    """The duration of the evaluation in each row (`*_runtime`), in seconds; 0 without one."""
    seconds = np.zeros(len(stream))
    for key in stream.keys:
        if key.endswith("_runtime") and key != "train_runtime":
            rows, values = stream.column(key)
            good = np.isfinite(values) & (values > 0)
            seconds[rows[good]] += np.minimum(values[good], MAX_EVALUATION_SECONDS)
    return seconds
