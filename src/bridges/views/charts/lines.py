"""The lines of a chart page: the points of each metric of a run, thinned to a maximum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bridges.stream.model import Float64, Int64, MetricStream, Run
from bridges.views.compare import is_duration
from bridges.views.metrics import main_metrics

MOST_POINTS = 2_000  # of a line
FEWEST_POINTS = 64  # to which a line is thinned at most
BUDGET = 250_000  # points of a page, above which lines are thinned
LIMIT = 1_000_000  # points of a page; further runs have no charts


@dataclass(frozen=True)
class Line:
    """A metric of a run: columns of float64, one value a point, in row order.

    `points` is the number of points before any were left out; `epoch` is NaN in rows without one;
    `time` is in seconds since the first row.
    """

    key: str
    points: int
    step: Float64
    epoch: Float64
    time: Float64
    value: Float64

    def __len__(self) -> int:
        return len(self.value)

    def thinned(self, most: int) -> Line:
        """At most `most` points: the first, the last, and the extremes of equal parts."""
        if len(self) <= most:
            return self
        at = extremes(self.value, most)
        columns = (self.step, self.epoch, self.time, self.value)
        return Line(self.key, self.points, *(column[at] for column in columns))


def extremes(values: Float64, most: int) -> Int64:
    """The positions (int64, rising, at most `most`) of the first and the last value, and of the
    least and greatest finite one of each of `most // 2 - 1` equal parts.
    """
    parts = most // 2 - 1
    edges = np.arange(parts + 1) * len(values) // parts
    finite = np.isfinite(values)
    low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    chosen = {0, len(values) - 1}
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        chosen.add(start + int(low[start:stop].argmin()))
        chosen.add(start + int(high[start:stop].argmax()))
    return np.array(sorted(chosen), np.int64)


def lines_of(run: Run, timed: MetricStream) -> Iterator[Line]:
    """The lines of a run, its main metrics first and durations last; `timed` has its times."""
    main = main_metrics(run)
    keys = dict.fromkeys(series.key for series in timed.numbers if series.key != "epoch")
    for key in sorted(keys, key=lambda key: (key not in main, is_duration(key))):
        rows, values = timed.column(key)
        seconds = (_times(timed, key)[: len(rows)] - _start(timed)) / 1e6
        step = timed.step[rows].astype(np.float64)
        yield Line(key, len(rows), step, timed.epoch[rows], seconds, values)


def _start(timed: MetricStream) -> int:
    assert timed.time is not None
    return int(timed.time[0])


def _times(timed: MetricStream, key: str) -> Int64:
    """The times of a metric's points in row order, in microseconds since 1970 UTC."""
    parts = [series for series in timed.numbers if series.key == key]
    rows = np.concatenate([part.rows for part in parts])
    return np.concatenate([timed.times(part) for part in parts])[np.argsort(rows, kind="stable")]


class Lines:
    """The lines of many runs, thinned further whenever together they exceed the budget.

    `charted` is the number of runs whose lines are held, at most `limit` points together. Runs
    behind these have the lines of one point only. `points` counts those of all runs.
    """

    def __init__(self, budget: int = BUDGET, limit: int = LIMIT) -> None:
        self.runs: list[list[Line]] = []
        self.most = MOST_POINTS
        self.points = 0
        self.charted = 0
        self._budget = budget
        self._limit = limit
        self._count = 0

    def add(self, lines: Iterator[Line]) -> None:
        """Add the lines of a run."""
        added = [line.thinned(self.most) for line in lines]
        self.points += sum(line.points for line in added)
        self.runs.append(added)
        if self.charted < len(self.runs) - 1 or not self._fit():
            self.runs[-1] = [line for line in self.runs[-1] if line.points == 1]
        else:
            self.charted += 1

    def _fit(self) -> bool:
        """Thin all lines as far as the budget asks; whether they keep to the limit."""
        count = self._count + sum(map(len, self.runs[-1]))
        while count > self._budget and self.most > FEWEST_POINTS:
            self.most //= 2
            self.runs = [[line.thinned(self.most) for line in run] for run in self.runs]
            count = sum(len(line) for run in self.runs for line in run)
        if is_fitting := count <= self._limit or len(self.runs) == 1:
            self._count = count
        return is_fitting
