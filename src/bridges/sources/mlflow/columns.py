"""Columns of the points of a run, as databases give them: checked, and split by key."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.formats.mlflow_store.records import Metric
from bridges.stream.columns import join_parts
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64

LARGEST = sys.float_info.max  # databases of MLflow hold it in place of infinity
ROWS_PER_CHUNK = 500  # small chunks stay in the processor's cache
Codes = NDArray[np.int32]  # positions of keys
MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1


def infinities(metrics: Iterable[Metric]) -> list[Finding]:
    """A note on values of ±LARGEST, most likely infinities."""
    count = sum(int((np.abs(metric.value) == LARGEST).sum()) for metric in metrics)
    message = f"values of ±{LARGEST:.4g}: MLflow's databases hold them in place of infinity"
    finding = Finding("infinity-in-database", Severity.INFO, "all metrics", message, count)
    return [finding] if count else []


class ColumnBuilder:
    """Collects rows of (key, value, time, step) of any type, as SQLite allows them.

    A value of None is NaN. Other rows are left out and counted.
    """

    def __init__(self) -> None:
        self._codes: dict[object, int] = {}
        self._keys: dict[str, int] = {}
        self._chunks: list[list[NDArray[Any]]] = [[], [], [], []]  # codes, value, time, step
        self._cut_steps = 0
        self._left_out = 0

    def add(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Add some rows."""
        try:
            chunk = self._numbers(rows)
        except (TypeError, ValueError, OverflowError):
            chunk = self._numbers(list(self._checked(rows)))
        for column, values in enumerate(chunk):
            self._chunks[column].append(values)

    def _numbers(self, rows: Sequence[tuple[object, ...]]) -> Sequence[NDArray[Any]]:
        """The rows as columns. Raises TypeError, ValueError or OverflowError."""
        if not rows:
            none = np.empty(0, np.int64)
            return np.empty(0, np.int32), np.empty(0), none, none
        key, value, time, step = zip(*rows, strict=True)
        steps, times = np.array(step), np.array(time)
        if steps.dtype != np.int64 or times.dtype != np.int64:
            raise TypeError
        for each in dict.fromkeys(key):
            if each not in self._codes:
                name = "" if each is None else str(each)
                self._codes[each] = self._keys.setdefault(name, len(self._keys))
        codes = np.array([*map(self._codes.__getitem__, key)], np.int32)
        return codes, np.array(value, np.float64), times, steps

    def _checked(self, rows: Sequence[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
        for key, value, time, step in rows:
            number = float("nan") if value is None else value
            time_ms, whole_step = whole(time), whole(step)
            if time_ms is None or whole_step is None or not isinstance(number, (int, float)):
                self._left_out += 1
            else:
                self._cut_steps += whole_step != step
                yield key, float(number), time_ms, whole_step

    def metrics(self) -> list[Metric]:
        """The points of each key, in their order. The rows are given away: call it once."""
        codes, *columns = self._chunks
        if not codes:
            return []
        if len(self._keys) == 1:  # nothing to sort
            (key,) = self._keys
            codes.clear()
            metric = Metric(key, *map(join_parts, columns))
            return [metric] if len(metric.value) else []
        code = join_parts(codes)
        order = np.argsort(code, kind="stable")
        ends = np.cumsum(np.bincount(code, minlength=len(self._keys)))
        parts = [np.split(_sorted(column, order), ends[:-1]) for column in columns]
        return [
            Metric(key, *points)
            for key, *points in zip(self._keys, *parts, strict=True)
            if len(points[0])
        ]

    def findings(self) -> list[Finding]:
        """The losses: steps with a fraction, and points left out."""
        found = []
        if self._cut_steps:
            message = "steps with a fraction, which is cut off: steps are integers in all targets"
            count = self._cut_steps
            found.append(Finding("step-with-fraction", Severity.LOSS, "metrics", message, count))
        if self._left_out:
            message = "points whose value, time or step is not a number: they are left out"
            count = self._left_out
            found.append(Finding("point-not-a-number", Severity.LOSS, "metrics", message, count))
        return found


def _sorted(chunks: list[NDArray[Any]], order: Int64) -> NDArray[Any]:
    """The chunks, which are freed, as one array in this order."""
    return join_parts(chunks)[order]


def whole(value: object) -> int | None:
    """An int64 from a number, without its fraction; None for anything else."""
    if not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
        return None
    number = int(value)
    return number if MIN_INT64 <= number <= MAX_INT64 else None
