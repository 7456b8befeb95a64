"""The pace: how many seconds lie between the start of a run and each of its rows.

    elapsed    training rows with `train_runtime` (token counting, transformers 4.53 and later)
    log        the elapsed times in another tool's log beside the history, whole seconds
    duration   the summary's `train_runtime`, spread over the steps, `eval_runtime` at eval rows
    synthetic  nothing: one second for each step

A pace gives the same seconds to the rows of a prefix as to the same rows in the longer log, but
for `duration`, which only a log with a summary has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bridges.stream.model import Evidence, Float64, Int64, MetricStream, RowKind

LONGEST_RUN = 1e10  # seconds: nothing in a log moves a time further
LATEST = 4_102_444_800  # seconds since 1970 UTC: no training was at the year 2100
LONGEST_STEP = 10_000.0  # seconds: what a synthetic pace gives to one row at most
REAL = ("elapsed", "log", "duration")  # those whose seconds are really seconds


@dataclass(frozen=True)
class Pace:
    """Seconds since the start (float64, one a row), and which process wrote each row (int64, rising
    by one wherever a run was resumed as far as its source can tell).
    """

    name: str
    seconds: Float64
    session: Int64


def best_pace(stream: MetricStream, log: Evidence | None = None) -> str:
    """The best pace that there is."""
    if len(elapsed_rows(stream)[0]) >= 2:
        return "elapsed"
    if log is not None and len(log.rows) >= 2:
        return "log"
    return "duration" if summary_duration(stream) is not None else "synthetic"


def pace_of(name: str, stream: MetricStream, log: Evidence | None = None) -> Pace:
    """The pace of that name."""
    session = np.zeros(len(stream), np.int64)
    if name == "elapsed":
        seconds, session = _through_known(stream, *elapsed_rows(stream))
    elif name == "log" and log is not None:
        seconds, session = _through_known(stream, log.rows, log.time / 1e6)
    elif name == "duration":
        seconds = _from_duration(stream)
    else:
        seconds = _from_steps(stream)
    return Pace(name, np.minimum(np.maximum(seconds, 0.0), LONGEST_RUN), session)


def elapsed_rows(stream: MetricStream) -> tuple[Int64, Float64]:
    """The training rows that tell their own elapsed seconds."""
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
    """What each row says of its own duration (`*_runtime` of an evaluation), in seconds."""
    seconds = np.zeros(len(stream))
    for key in stream.keys:
        if key.endswith("_runtime") and key != "train_runtime":
            rows, values = stream.column(key)
            good = np.isfinite(values) & (values > 0)
            seconds[rows[good]] += np.minimum(values[good], 1e9)
    return seconds


def _through_known(stream: MetricStream, rows: Int64, seconds: Float64) -> tuple[Float64, Int64]:
    """Elapsed seconds where a row has them; the rows between follow by their own duration."""
    own = np.cumsum(eval_seconds(stream))
    if not len(rows):
        return own, np.zeros(len(stream), np.int64)
    fell = np.concatenate([[False], np.diff(seconds) < 0])  # a resume counts from zero again
    before = np.where(fell, np.concatenate([[0.0], seconds[:-1]]), 0.0)
    anchors = seconds + np.cumsum(before)
    index = np.searchsorted(rows, np.arange(len(stream)), side="right") - 1
    base = np.where(index >= 0, anchors[index] - own[rows[index]], 0.0)
    session = np.where(index >= 0, np.cumsum(fell)[index], 0)
    return np.asarray(base + own), np.asarray(session, np.int64)


def _from_duration(stream: MetricStream) -> Float64:
    """The summary's duration over the steps before it, evaluations taking their own time."""
    found = summary_duration(stream)
    if found is None:
        return _from_steps(stream)
    last, duration = found
    own = np.cumsum(eval_seconds(stream))
    training = duration - own[last] if own[last] < duration else duration
    scale = 1.0 if own[last] < duration else 0.0
    steps = np.maximum(stream.step[: last + 1], 0).astype(np.float64)
    share = np.minimum(steps / max(steps.max(), 1.0), 1.0)
    elapsed = np.empty(len(stream))
    elapsed[: last + 1] = share * training + own[: last + 1] * scale
    elapsed[last + 1 :] = duration + own[last + 1 :] - own[last]
    return elapsed


def _from_steps(stream: MetricStream) -> Float64:
    """One second for each step; a step that goes back takes no time."""
    gained = stream.step.astype(np.float64)
    gained[1:] -= gained[:-1].copy()
    return np.asarray(np.cumsum(np.minimum(np.maximum(gained, 0.0), LONGEST_STEP)))
