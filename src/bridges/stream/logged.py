"""Logged rows: rows of a run that come from a log beside its history, which may be rounded.

A log is ahead of the history, so a target may have got rows from the log that the history holds
later. It keeps the positions of such rows. The run is then seen as the target holds it: the log's
rows where it has them, and those of the history that it lacks behind them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from bridges.stream.added import moved
from bridges.stream.columns import appended
from bridges.stream.model import Int64, Log, Run

Ranges = tuple[tuple[int, int, int], ...]  # first row, row after the last, first row of the log


def checked(found: Any) -> Ranges:
    """The ranges that a target keeps. Raises ValueError or TypeError for anything else."""
    ranges = tuple((int(start), int(stop), int(first)) for start, stop, first in found)
    ends = [0, *(end for start, stop, _ in ranges for end in (start, stop))]
    if any(later < end for end, later in pairwise(ends)) or any(one[2] < 0 for one in ranges):
        raise ValueError(found)
    return ranges


def lines_of(ranges: Ranges, rows: int) -> Int64:
    """For each of the first `rows` rows its row of the log (int64); -1 where it is not from it."""
    lines = np.full(rows, -1, np.int64)
    for start, stop, first in ranges:
        stop = min(stop, rows)
        lines[start:stop] = np.arange(first, first + max(stop - start, 0))
    return lines


def ranges_of(lines: Int64) -> Ranges:
    """The ranges of rows that are from a log, by the row of the log of each row (-1: none)."""
    ranges: list[tuple[int, int, int]] = []
    for row in np.flatnonzero(lines >= 0).tolist():
        line = int(lines[row])
        if ranges and ranges[-1][1] == row and line == ranges[-1][2] + row - ranges[-1][0]:
            ranges[-1] = (ranges[-1][0], row + 1, ranges[-1][2])
        else:
            ranges.append((row, row + 1, line))
    return tuple(ranges)


def as_stored(run: Run, log: Log, logged: Ranges, rows: int, *, exact: bool = False) -> Run | None:
    """The run with its history in the order of a target that holds `rows` rows of it, of which
    those in `logged` are from the log; None where it has no such rows.

    `exact` takes the history's own row in place of a row of the log that is the same.
    """
    lines, own = lines_of(logged, rows), lines_of(run.logged, len(run.history))
    stored = lines[lines >= 0]
    if len(stored) and stored.max() >= len(log.stream):
        return None
    count = len(run.history)
    left = np.setdiff1d(np.arange(count), log.same[stored])  # what the target lacks as such a row
    lacking = rows - len(stored)
    if lacking > len(left):
        return None
    order = np.empty(rows, np.int64)  # rows of the history, and behind these the rows of the log
    order[lines < 0] = left[:lacking]
    order[lines >= 0] = count + stored
    if exact:
        same = log.same[stored]
        is_better = (same >= 0) & (own[same] < 0)
        order[lines >= 0] = np.where(is_better, same, count + stored)
    return _ordered(run, log, np.concatenate([order, left[lacking:]]))


def _ordered(run: Run, log: Log, order: Int64) -> Run:
    """The run with these rows of its history and, from the length of that on, of the log; added
    rows follow.
    """
    count, is_line = len(run.history), order >= len(run.history)
    lines = np.concatenate([lines_of(run.logged, count), np.arange(len(log.stream))])[order]
    stream = appended(run.history, log.stream).take(order)
    place = np.full(len(run.stream), -1, np.int64)  # the new position of each row
    known = np.where(is_line, np.concatenate([np.arange(count), log.same])[order], order)
    history = np.setdiff1d(np.arange(len(run.stream)), run.added)
    place[history[known[known >= 0]]] = np.flatnonzero(known >= 0)
    place[[*run.added]] = np.arange(len(order), len(order) + len(run.added))
    return replace(
        run,
        stream=appended(stream, run.stream.take(np.array(run.added, np.int64))),
        added=tuple(range(len(order), len(order) + len(run.added))),
        logged=ranges_of(lines),
        evidence=tuple(moved(one, place) for one in run.evidence),
    )
