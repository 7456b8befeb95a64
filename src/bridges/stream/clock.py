"""The clock: a time for every row, from the best source that the log itself holds.

A log holds no instant, so the origin is `SYNTHETIC_ORIGIN` until something better is known; never
the export's own time. Sources, best first:

    elapsed    training rows with `train_runtime` (token counting, transformers 4.53 and later)
    duration   the summary's `train_runtime`, spread over the steps, `eval_runtime` at eval rows
    synthetic  nothing: one second for each step

Times are integer milliseconds, strictly rising from row to row. A source gives the same times to
the rows of a prefix as to the same rows in the longer log, so a run can grow in its target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Clock, Float64, Int64, MetricStream, RowKind

SYNTHETIC_ORIGIN = 946_684_800_000  # 2000-01-01T00:00:00Z in milliseconds
LONGEST_RUN = 1e10  # seconds: nothing in a log moves a time further
LONGEST_STEP = 10_000.0  # seconds: what a synthetic clock gives to one row at most


def apply_clock(
    stream: MetricStream, source: str | None = None, origin: int | None = None
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream with its times, the clock that gave them, and what there is to say of it.

    `source` forces one of `SOURCES` (a target that holds the start of a run keeps its clock);
    `origin` is the start in milliseconds since 1970 UTC where it is known.
    """
    chosen = source if source in SOURCES else best_source(stream)
    start = SYNTHETIC_ORIGIN if origin is None else origin
    elapsed = SOURCES[chosen](stream)
    elapsed = np.clip(elapsed, 0.0, LONGEST_RUN)
    times = _strictly_rising(start + np.rint(elapsed * 1000).astype(np.int64))
    end = int(times[-1]) if len(times) else start
    clock = Clock(chosen, "synthetic" if origin is None else "given", start, end)
    return replace(stream, time=times), clock, _clock_findings(clock)


def best_source(stream: MetricStream) -> str:
    """The best source that the stream itself holds."""
    if len(_elapsed_rows(stream)[0]) >= 2:
        return "elapsed"
    return "duration" if _summary(stream) is not None else "synthetic"


def _clock_findings(clock: Clock) -> list[Finding]:
    if not clock.is_synthetic:
        return []
    what = {
        "elapsed": "durations are those of the log (train_runtime in its rows)",
        "duration": "the duration is that of the summary row, spread over the steps",
        "synthetic": "the log holds no time at all: one second stands for each step",
    }[clock.source]
    message = f"times are synthetic and start on 2000-01-01: {what}"
    return [Finding("clock-synthetic", Severity.INFO, "all rows", message)]


def _strictly_rising(times: Int64) -> Int64:
    index = np.arange(len(times), dtype=np.int64)
    return np.asarray(np.maximum.accumulate(times - index) + index, np.int64)


def _elapsed_rows(stream: MetricStream) -> tuple[Int64, Float64]:
    rows, seconds = stream.column("train_runtime")
    keep = (stream.kind[rows] == RowKind.TRAIN) & np.isfinite(seconds) & (seconds >= 0)
    return rows[keep], seconds[keep]


def _summary(stream: MetricStream) -> tuple[int, float] | None:
    """Row and duration in seconds of the first summary row that has one."""
    rows, seconds = stream.column("train_runtime")
    good = (stream.kind[rows] == RowKind.SUMMARY) & np.isfinite(seconds) & (seconds > 0)
    return (int(rows[good][0]), float(seconds[good][0])) if good.any() else None


def _eval_seconds(stream: MetricStream) -> Float64:
    """What each row says of its own duration (`*_runtime` of an evaluation), in seconds."""
    seconds = np.zeros(len(stream))
    for key in stream.keys:
        if key.endswith("_runtime") and key != "train_runtime":
            rows, values = stream.column(key)
            good = np.isfinite(values) & (values > 0)
            seconds[rows[good]] += np.minimum(values[good], 1e9)
    return seconds


def _from_elapsed(stream: MetricStream) -> Float64:
    """Elapsed seconds where a row has them; the rows between follow by their own duration."""
    rows, seconds = _elapsed_rows(stream)
    if not len(rows):
        return np.cumsum(_eval_seconds(stream))
    restarts = np.concatenate([[0.0], np.where(np.diff(seconds) < 0, seconds[:-1], 0.0)])
    anchors = seconds + np.cumsum(restarts)  # a resume counts from zero again
    own = np.cumsum(_eval_seconds(stream))
    index = np.searchsorted(rows, np.arange(len(stream)), side="right") - 1
    base = np.where(index >= 0, anchors[index] - own[rows[index]], 0.0)
    return np.asarray(base + own)


def _from_duration(stream: MetricStream) -> Float64:
    """The summary's duration over the steps before it, evaluations taking their own time."""
    found = _summary(stream)
    if found is None:
        return _from_steps(stream)
    last, duration = found
    own = np.cumsum(_eval_seconds(stream))
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
    gained = np.diff(stream.step.astype(np.float64), prepend=0.0)
    return np.asarray(np.cumsum(np.clip(gained, 0.0, LONGEST_STEP)))


SOURCES: dict[str, Callable[[MetricStream], Float64]] = {
    "elapsed": _from_elapsed,
    "duration": _from_duration,
    "synthetic": _from_steps,
}
