"""Logged rows: rows of a run that come from a log beside its history and may be rounded.

A log is ahead of the history, so a target may have rows from the log that the history contains
later. The target stores the positions of such rows. The run is then rearranged like the target: the
log's rows at these positions, and the missing rows of the history after them.
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
    """The ranges from their stored form. Raises ValueError or TypeError for anything else."""
    ranges = tuple((int(start), int(stop), int(first)) for start, stop, first in found)
    ends = [0, *(end for start, stop, _ in ranges for end in (start, stop))]
    if any(later < end for end, later in pairwise(ends)) or any(one[2] < 0 for one in ranges):
        raise ValueError(found)
    return ranges


def lines_of(ranges: Ranges, rows: int) -> Int64:
    """The log row of each of the first `rows` rows (int64); -1 for rows of the history."""
    lines = np.full(rows, -1, np.int64)
    for start, stop, first in ranges:
        stop = min(stop, rows)
        lines[start:stop] = np.arange(first, first + max(stop - start, 0))
    return lines


def ranges_of(lines: Int64) -> Ranges:
    """The ranges of logged rows, from the log row of each row (-1: none)."""
    ranges: list[tuple[int, int, int]] = []
    for row in np.flatnonzero(lines >= 0).tolist():
        line = int(lines[row])
        if ranges and ranges[-1][1] == row and line == ranges[-1][2] + row - ranges[-1][0]:
            ranges[-1] = (ranges[-1][0], row + 1, ranges[-1][2])
        else:
            ranges.append((row, row + 1, line))
    return tuple(ranges)


def as_stored(run: Run, log: Log, logged: Ranges, rows: int, *, exact: bool = False) -> Run | None:
    """The run with its history in the order of a target with `rows` rows, `logged` from the log.

    None if the run does not have these rows. `exact` uses the row of the history instead of the
    same row of the log.
    """
    lines, own = lines_of(logged, rows), lines_of(run.logged, len(run.history))
    stored = lines[lines >= 0]
    if len(stored) and stored.max() >= len(log.stream):
        return None
    count = len(run.history)
    left = np.setdiff1d(np.arange(count), log.same[stored])  # not stored as a row of the log
    from_history = rows - len(stored)
    if from_history > len(left):
        return None
    order = np.empty(rows, np.int64)  # rows of the history; from `count` on, rows of the log
    order[lines < 0] = left[:from_history]
    order[lines >= 0] = count + stored
    if exact:
        same = log.same[stored]
        is_better = (same >= 0) & (own[same] < 0)
        order[lines >= 0] = np.where(is_better, same, count + stored)
    return _ordered(run, log, np.concatenate([order, left[from_history:]]))


def _ordered(run: Run, log: Log, order: Int64) -> Run:
    """The run with its rows in a new order, followed by its added rows.

    `order`: rows of the history; numbers from its length on are rows of the log.
    """
    count, is_line = len(run.history), order >= len(run.history)
    lines = np.concatenate([lines_of(run.logged, count), np.arange(len(log.stream))])[order]
    stream = appended(run.history, log.stream).take(order)
    position = np.full(len(run.stream), -1, np.int64)  # the new position of each row
    known = np.where(is_line, np.concatenate([np.arange(count), log.same])[order], order)
    history = np.setdiff1d(np.arange(len(run.stream)), run.added)
    position[history[known[known >= 0]]] = np.flatnonzero(known >= 0)
    position[[*run.added]] = np.arange(len(order), len(order) + len(run.added))
    return replace(
        run,
        stream=appended(stream, run.stream.take(np.array(run.added, np.int64))),
        added=tuple(range(len(order), len(order) + len(run.added))),
        logged=ranges_of(lines),
        evidence=tuple(moved(one, position) for one in run.evidence),
    )
