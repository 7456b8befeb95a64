"""Two runs compared: params, metrics, and the first different row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.stream.model import MetricStream, Run
from bridges.views.metrics import Metric, main_metrics, metric
from bridges.views.params import changes, params_of

_DURATION = re.compile(r"(^|_)(runtime|(samples|steps|tokens)_per_second)$")
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RowDifference:
    """A different row: its position, and the values of the differing keys (and the step) in
    each run; None for a run that has ended before it.
    """

    row: int
    a: Mapping[str, Any] | None
    b: Mapping[str, Any] | None


@dataclass(frozen=True)
class Comparison:
    """The differences of two runs.

    `params` has the pairs of values that differ, with `ABSENT` for a missing one; `metrics` a pair
    for each metric, the main ones first. `rows` is the number of different rows, of which
    `timed_only` differ in durations only; `first` is the first of the others, or of all if there
    is none.
    """

    params: Mapping[str, tuple[Any, Any]]
    metrics: Mapping[str, tuple[Metric | None, Metric | None]]
    rows: int
    timed_only: int
    first: RowDifference | None

    @property
    def is_equal(self) -> bool:
        """Whether no param and no row differs."""
        return not self.params and not self.rows


def compare(a: Run, b: Run, ignored: Sequence[str] = ()) -> Comparison:
    """Compare two runs without the params and keys of the `ignored` patterns."""
    a, b = (_without(run, ignored) for run in (a, b))
    params = _pairs(params_of(a), params_of(b))
    main = dict.fromkeys([*main_metrics(a), *main_metrics(b)])
    keys = [*dict.fromkeys([*main, *_numbers(a), *_numbers(b)])]
    metrics = {key: (metric(a, key), metric(b, key)) for key in keys if key != "epoch"}
    differs, differs_in_time = _rows(a.stream, b.stream)
    either = differs | differs_in_time
    found = differs if differs.any() else either
    first = _difference(int(found.argmax()), a.stream, b.stream) if found.any() else None
    timed_only = int((differs_in_time & ~differs).sum())
    return Comparison(params, metrics, int(either.sum()), timed_only, first)


def is_duration(key: str) -> bool:
    """Whether a key holds a duration or a speed, which differ from run to run by chance."""
    return _DURATION.search(key) is not None


def _without(run: Run, ignored: Sequence[str]) -> Run:
    def is_kept(key: str) -> bool:
        return not any(fnmatchcase(key, pattern) for pattern in ignored)

    series = tuple(part for part in run.stream.series if is_kept(part.key))
    params, trial = (
        {key: value for key, value in each.items() if is_kept(key)}
        for each in (run.params, run.trial_params)
    )
    stream = replace(run.stream, series=series)
    return replace(run, stream=stream, params=params, trial_params=trial)


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    back = changes(b, a)
    return {key: (back[key], value) for key, value in changes(a, b).items()}


def _numbers(run: Run) -> list[str]:
    return [series.key for series in run.stream.numbers]


def _rows(a: MetricStream, b: MetricStream) -> tuple[Mask, Mask]:
    """Which rows differ, and which of them in durations (two masks as long as the longer run)."""
    shared, rows = min(len(a), len(b)), max(len(a), len(b))
    masks = np.zeros((2, rows), bool)
    masks[0, shared:] = True
    masks[0, :shared] = a.step[:shared] != b.step[:shared]
    for key in dict.fromkeys([*a.keys, *b.keys]):
        masks[int(is_duration(key)), :shared] |= _differs(a, b, key, shared)
    return masks[0], masks[1]


def _differs(a: MetricStream, b: MetricStream, key: str, rows: int) -> Mask:
    """Which of the first rows have other values under a key."""
    (at_a, values_a), (at_b, values_b) = (_column(stream, key, rows) for stream in (a, b))
    differs = np.zeros(rows, bool)
    differs[np.setxor1d(at_a, at_b, assume_unique=True)] = True
    at, in_a, in_b = np.intersect1d(at_a, at_b, assume_unique=True, return_indices=True)
    left, right = values_a[in_a], values_b[in_b]
    differs[at] = ~_equal(left, right)
    return differs


def _column(stream: MetricStream, key: str, rows: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The values of a key in the first rows: float64, or objects if some are not numbers."""
    at, values = stream.column(key)
    others = [part for part in stream.series if part.key == key and not part.is_number]
    if others:
        at = np.concatenate([at, *(part.rows for part in others)])
        values = np.concatenate([values.astype(object), *(part.values for part in others)])
    chosen = at < rows
    return at[chosen], values[chosen]


def _equal(left: NDArray[Any], right: NDArray[Any]) -> Mask:
    """Whether values are equal one by one; NaN equals NaN."""
    if left.dtype == right.dtype == np.float64:
        return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return np.array([x == y or (x != x and y != y) for x, y in pairs], bool)


def _difference(row: int, a: MetricStream, b: MetricStream) -> RowDifference:
    """A row in both runs, with its differing keys only."""
    x, y = (_row(stream, row) for stream in (a, b))
    if x is not None and y is not None:
        same = [key for key in x if key != "step" and key in y and _is_same(x[key], y[key])]
        x, y = ({key: v for key, v in one.items() if key not in same} for one in (x, y))
    return RowDifference(row, x, y)


def _is_same(left: Any, right: Any) -> bool:
    return bool(left == right or (left != left and right != right))


def _row(stream: MetricStream, row: int) -> dict[str, Any] | None:
    """A row as a dict, None behind the last one."""
    if row >= len(stream):
        return None
    values: dict[str, Any] = {"step": stream.step[row].item()}
    for part in stream.series:
        at = np.searchsorted(part.rows, row)
        if at < len(part.rows) and part.rows[at] == row:
            value = part.values[at]
            values[part.key] = value.item() if part.is_number else value
    return values


def by_step(run: Run, key: str, edges: NDArray[np.float64]) -> list[float | None]:
    """The mean of a metric between each two of the step `edges` (rising); None without values."""
    rows, values = run.stream.column(key)
    finite = np.isfinite(values)
    steps, values = run.stream.step[rows][finite], values[finite]
    cell = np.clip(np.searchsorted(edges, steps, "right") - 1, 0, len(edges) - 2)
    counts = np.bincount(cell, minlength=len(edges) - 1)
    sums = np.bincount(cell, values / np.maximum(counts[cell], 1), minlength=len(edges) - 1)
    return [total if count else None for total, count in zip(sums.tolist(), counts, strict=True)]
