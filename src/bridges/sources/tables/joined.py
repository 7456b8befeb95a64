"""Joins the tables of one training: a row for each step, with the values of all tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bridges.sources.tables.table import Table
from bridges.stream.model import NO_TIME, Int64, MetricStream, RowKind, Series


@dataclass(frozen=True)
class _Rows:
    """The rows of all tables, one after the other: step, time, and how often their table had the
    step before (int64, n each).
    """

    step: Int64
    time: Int64
    turn: Int64

    @classmethod
    def of(cls, tables: Sequence[Table]) -> _Rows:
        step = np.concatenate([table.stream.step for table in tables])
        times = [
            np.full(len(table.lines), NO_TIME) if table.time is None else table.time
            for table in tables
        ]
        turns = [_turns(table.stream.step) for table in tables]
        return cls(step, np.concatenate(times), np.concatenate(turns))


def join(tables: Sequence[Table]) -> tuple[MetricStream, Int64]:
    """The rows of the tables by step, and their times (int64, n; NO_TIME: none).

    A repeated step has several rows. If all rows have times, each value keeps its own.
    """
    rows = _Rows.of(tables)
    order = np.lexsort((rows.turn, rows.step))
    step, turn = rows.step[order], rows.turn[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(step) != 0) | (np.diff(turn) != 0)
    joined = np.empty(len(order), np.int64)
    joined[order] = np.cumsum(is_first) - 1
    count = int(is_first.sum())
    time = np.full(count, NO_TIME)
    np.minimum.at(time, joined, rows.time)
    has_times = bool((time != NO_TIME).all())
    series = []
    start = 0
    for table in tables:
        place = joined[start : start + len(table.lines)]
        own = rows.time[start : start + len(table.lines)]
        start += len(table.lines)
        is_timed = has_times and bool((own != NO_TIME).all())
        series += [_placed(part, place, own if is_timed else None) for part in table.stream.series]
    kind = np.full(count, RowKind.CUSTOM, np.uint8)
    known = time if has_times else None
    return MetricStream(step[is_first], kind, tuple(series), known), time


def _placed(part: Series, place: Int64, time: Int64 | None) -> Series:
    """The series in its rows of the joined stream, in their order."""
    rows = place[part.rows]
    order = np.argsort(rows, kind="stable")
    own = None if time is None else time[part.rows][order]
    return Series(part.key, rows[order], part.values[order], own)


def _turns(step: Int64) -> Int64:
    """How often each step occurred before, in rows with these steps (int64, n)."""
    order = np.argsort(step, kind="stable")
    ordered = step[order]
    index = np.arange(len(step))
    is_first = np.ones(len(step), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    turn = np.empty(len(step), np.int64)
    turn[order] = index - np.maximum.accumulate(np.where(is_first, index, 0))
    return turn
