"""From the points of several files to one metric stream.

Consecutive points of a file with one step are a row; a key that comes again opens another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bridges.sources.tensorboard.event_log import EventLog, Mask
from bridges.sources.tensorboard.trainings import LogPart
from bridges.stream.model import Float64, Int64, MetricStream, RowKind, Series, Values


class RowsOf(NamedTuple):
    """A part of a file, and the prefix of its keys; the last row `may_grow`."""

    prefix: str
    part: LogPart
    may_grow: bool = False


def stream_of(parts: Sequence[RowsOf], *, in_turns: bool) -> MetricStream:
    """The stream of parts of files, without rows that may grow.

    The rows of the parts follow each other; `in_turns` sorts them by time and keeps the order of
    each part.
    """
    points = _Points()
    for part in parts:
        points.add(*part)
    return points.stream(in_turns=in_turns)


@dataclass(frozen=True)
class _Columns:
    """The points of some parts (n each): code of the key, row, value and time."""

    code: Int64
    row: Int64
    value: Float64
    time: Int64

    @classmethod
    def joined(cls, parts: Sequence[_Columns]) -> _Columns:
        """The points of all parts."""
        names = ("code", "row", "value", "time")
        return cls(*(_joined([getattr(part, name) for part in parts]) for name in names))

    def take(self, order: Int64) -> _Columns:
        """The points in another order."""
        return _Columns(self.code[order], self.row[order], self.value[order], self.time[order])


class _Points:
    """The points of several parts, by key and kind (number or text), and their rows."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, bool], int] = {}
        self._texts: list[str] = []
        self._columns: list[_Columns] = []
        self._rows = 0
        self._row_steps: list[Int64] = []
        self._row_times: list[Int64] = []

    def add(self, prefix: str, part: LogPart, may_grow: bool) -> None:
        """Add the points of a part, in rows of their own."""
        log, kept = part.log, slice(None) if part.kept is None else part.kept
        code, step = self._code_of(prefix, log)[log.tag[kept]], log.step[kept]
        is_first = _row_starts(code, step)
        end = int(np.flatnonzero(is_first)[-1]) if may_grow and len(step) else len(step)
        if not end:
            return
        code, step, is_first = code[:end], step[:end], is_first[:end]
        value, time = log.value[kept][:end], log.time[kept][:end]
        if log.texts:
            is_number = log.tag[kept][:end] < log.numbers
            value = np.where(is_number, value, value + len(self._texts))
            self._texts += log.texts
        row = np.cumsum(is_first) - 1 + self._rows
        self._rows = int(row[-1]) + 1
        self._columns.append(_Columns(code, row, value, time))
        self._row_steps.append(step[is_first])
        self._row_times.append(time[is_first])

    def _code_of(self, prefix: str, log: EventLog) -> Int64:
        """The code of each tag of a file (int64)."""
        names = [(prefix + tag, at >= log.numbers) for at, tag in enumerate(log.tags)]
        codes = [self._codes.setdefault(name, len(self._codes)) for name in names]
        return np.array(codes, np.int64)

    def stream(self, *, in_turns: bool) -> MetricStream:
        """The stream of all points."""
        points = _Columns.joined(self._columns)
        step, time = _joined(self._row_steps), _joined(self._row_times)
        if in_turns and len(self._row_times) > 1:
            order = self._by_time()
            position = np.empty(len(order), np.int64)
            position[order] = np.arange(len(order))
            step, time = step[order], time[order]
            points = replace(points, row=position[points.row])
            points = points.take(np.lexsort((points.row, points.code)))
        else:
            points = points.take(np.argsort(points.code, kind="stable"))
        kind = np.full(len(step), RowKind.CUSTOM, np.uint8)
        return MetricStream(step, kind, self._series(points, time), time)

    def _by_time(self) -> Int64:
        """The order of the rows by time; those of a part keep their order."""
        latest = [np.maximum.accumulate(times) for times in self._row_times]
        return np.argsort(_joined(latest), kind="stable")

    def _series(self, points: _Columns, row_time: Int64) -> tuple[Series, ...]:
        """The series of sorted points. They have times of their own if these are not the rows'."""
        ends = np.searchsorted(points.code, np.arange(len(self._codes) + 1)).tolist()
        has_times = bool((points.time != row_time[points.row]).any())
        series = []
        for (key, is_text), first, last in zip(self._codes, ends[:-1], ends[1:], strict=True):
            if first < last:
                value = points.value[first:last]
                values = self._texts_at(value) if is_text else value
                time = points.time[first:last] if has_times else None
                series.append(Series(key, points.row[first:last], values, time))
        return tuple(series)

    def _texts_at(self, positions: Float64) -> Values:
        texts = np.empty(len(positions), object)
        texts[:] = [self._texts[at] for at in positions.astype(np.int64).tolist()]
        return texts


def _row_starts(code: Int64, step: Int64) -> Mask:
    """Whether each point begins a row (bool, n)."""
    is_first = np.ones(len(step), bool)
    is_first[1:] = step[1:] != step[:-1]
    previous = _previous(code)
    start = np.maximum.accumulate(np.where(is_first, np.arange(len(step)), 0))
    if not (previous >= start).any():
        return is_first
    # a row that starts at `s` ends at the first later point whose step or key comes again
    last = np.maximum.accumulate(np.where(is_first, np.arange(len(step)) - 1, previous))
    following = np.searchsorted(last, np.arange(len(step))).tolist()
    is_first[:] = False
    at = 0
    while at < len(step):
        is_first[at] = True
        at = following[at]
    return is_first


def _previous(code: Int64) -> Int64:
    """The position of the point before each one with the same code; -1 for the first."""
    order = np.argsort(code, kind="stable")
    previous = np.full(len(code), -1, np.int64)
    is_same = code[order[1:]] == code[order[:-1]]
    previous[order[1:][is_same]] = order[:-1][is_same]
    return previous


def _joined(columns: Sequence[Values]) -> Values:
    return np.concatenate(columns) if columns else np.empty(0, np.int64)
