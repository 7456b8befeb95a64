"""From the points of several files to one metric stream.

Consecutive points of a directory with one step are a row; a repeated key opens another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bridges.sources.tensorboard.event_log import Codes, EventLog, Mask, as_codes
from bridges.sources.tensorboard.trainings import LogPart
from bridges.stream.model import Float64, Int64, MetricStream, RowKind, Series, Values


@dataclass(frozen=True)
class DirectoryPoints:
    """The parts of the files of one directory, and the prefix of its keys.

    in_turns: the files were written at the same time: points are sorted by time
    may_grow: the last row may get more points, and is left out
    """

    prefix: str
    parts: Sequence[LogPart]
    in_turns: bool = False
    may_grow: bool = False


def stream_of(directories: Sequence[DirectoryPoints]) -> MetricStream:
    """The stream of some directories; rows of several ones are sorted by time."""
    points = _Points()
    for directory in directories:
        points.add(directory)
    return points.stream()


class _Columns(NamedTuple):
    """Some points (n each): code of the key, step, value and time."""

    code: Codes
    step: Int64
    value: Float64
    time: Int64

    @classmethod
    def joined(cls, parts: Sequence[_Columns]) -> _Columns:
        """The points of all parts."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            _joined([part.code for part in parts]),
            _joined([part.step for part in parts]),
            _joined([part.value for part in parts]),
            _joined([part.time for part in parts]),
        )

    def take(self, chosen: slice | Int64 | Mask) -> _Columns:
        """Some points, or all in another order."""
        code, step, value, time = self
        return _Columns(code[chosen], step[chosen], value[chosen], time[chosen])


class _Points:
    """The points of several directories, by key and kind (number or text), and their rows."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, bool], int] = {}
        self._texts: list[str] = []
        self._columns: list[_Columns] = []  # for each directory, its points sorted by code
        self._row: list[Int64] = []  # for each directory, the row of each of these points
        self._rows = 0
        self._row_steps: list[Int64] = []
        self._row_times: list[Int64] = []

    def add(self, directory: DirectoryPoints) -> None:
        """Add the points of a directory."""
        parts = [self._columns_of(directory.prefix, part) for part in directory.parts]
        parts = [part for part in parts if len(part.step)]
        if directory.may_grow:
            grows = range(len(parts)) if directory.in_turns else range(len(parts))[-1:]
            parts = [
                _without_last_row(each) if at in grows else each for at, each in enumerate(parts)
            ]
        points = _Columns.joined(parts)
        if directory.in_turns:
            latest = [np.maximum.accumulate(part.time) for part in parts]
            points = points.take(np.argsort(_joined(latest), kind="stable"))
        if not len(points.step):
            return
        by_code = points.code.argsort(kind="stable")
        starts, row = _rows(points.code, points.step, by_code)
        self._columns.append(points.take(by_code))
        self._row.append(row[by_code] + self._rows if self._rows else row[by_code])
        self._row_steps.append(points.step[starts])
        self._row_times.append(points.time[starts])
        self._rows += len(starts)

    def _columns_of(self, prefix: str, part: LogPart) -> _Columns:
        """The points of a part, without rows."""
        log, tag, value = part.log, part.log.tag, part.log.value
        if log.texts:
            value = np.where(tag < log.numbers, value, value + len(self._texts))
            self._texts += log.texts
        is_first = not self._codes  # its codes are the positions of its tags
        codes = self._code_of(prefix, log)
        points = _Columns(tag if is_first else codes[tag], log.step, value, log.time)
        return points if part.kept is None else points.take(part.kept)

    def _code_of(self, prefix: str, log: EventLog) -> Codes:
        """The code of each tag of a file."""
        known = self._codes
        names = [(prefix + tag, at >= log.numbers) for at, tag in enumerate(log.tags)]
        found = [known.setdefault(name, len(known)) for name in names]
        return as_codes(np.array(found, np.int64), len(known))

    def stream(self) -> MetricStream:
        """The stream of all points."""
        points, row = _Columns.joined(self._columns), _joined(self._row)
        step, time = _joined(self._row_steps), _joined(self._row_times)
        if len(self._columns) > 1:
            latest = [np.maximum.accumulate(times) for times in self._row_times]
            order = np.argsort(_joined(latest), kind="stable")
            position = np.empty(len(order), np.int64)
            position[order] = np.arange(len(order))
            by_code = np.argsort(points.code, kind="stable")
            step, time = step[order], time[order]
            points, row = points.take(by_code), position[row[by_code]]
        kind = np.empty(len(step), np.uint8)
        kind.fill(RowKind.CUSTOM)
        return MetricStream(step, kind, self._series(points, row, time), time)

    def _series(self, points: _Columns, row: Int64, row_time: Int64) -> tuple[Series, ...]:
        """The series of sorted points. They have times of their own if these are not the rows'."""
        ends = points.code.searchsorted(np.arange(len(self._codes) + 1)).tolist()
        has_times = bool((points.time != row_time[row]).any())
        series = []
        for (key, is_text), first, last in zip(self._codes, ends[:-1], ends[1:], strict=True):
            if first < last:
                value = points.value[first:last]
                values = self._texts_at(value) if is_text else value
                time = points.time[first:last] if has_times else None
                series.append(Series(key, row[first:last], values, time))
        return tuple(series)

    def _texts_at(self, positions: Float64) -> Values:
        texts = np.empty(len(positions), object)
        texts[:] = [self._texts[at] for at in positions.astype(np.int64).tolist()]
        return texts


def _without_last_row(points: _Columns) -> _Columns:
    by_code = np.argsort(points.code, kind="stable")
    starts, _ = _rows(points.code, points.step, by_code)
    return points.take(slice(int(starts[-1])))


def _rows(code: Codes, step: Int64, by_code: Int64) -> tuple[Int64, Int64]:
    """The first point of each row (int64, rows), and the row of each point (int64, n).

    `by_code` sorts the points by code.
    """
    is_first = np.ones(len(step), bool)
    np.not_equal(step[1:], step[:-1], out=is_first[1:])
    row = is_first.cumsum() - 1
    sorted_row, sorted_code = row[by_code], code[by_code]
    is_again = (sorted_row[1:] == sorted_row[:-1]) & (sorted_code[1:] == sorted_code[:-1])
    if not is_again.any():
        return is_first.nonzero()[0], row
    # a row from `s` on ends at the first later point with another step or a repeated key
    last = np.maximum.accumulate(
        np.where(is_first, np.arange(len(step)) - 1, _previous(code, by_code))
    )
    following = np.searchsorted(last, np.arange(len(step))).tolist()
    starts, at = [], 0
    while at < len(step):
        starts.append(at)
        at = following[at]
    is_first[:] = False
    is_first[starts] = True
    return np.array(starts), is_first.cumsum() - 1


def _previous(code: Codes, order: Int64) -> Int64:
    """The position of the point before each one with the same code; -1 for the first."""
    previous = np.full(len(code), -1, np.int64)
    is_same = code[order[1:]] == code[order[:-1]]
    previous[order[1:][is_same]] = order[:-1][is_same]
    return previous


def _joined(columns: Sequence[Values]) -> Values:
    if len(columns) == 1:
        return columns[0]
    return np.concatenate(columns) if columns else np.empty(0, np.int64)
