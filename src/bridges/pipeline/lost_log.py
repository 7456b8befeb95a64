"""The rows of a deleted log, read back from the target.

An existing run may have rows of a tool's log. If the log is deleted, neither these rows nor their
digest can be computed again, so the points of the target are compared with the state and replace
the log.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.exporters.base import Exporter, as_stored
from bridges.pipeline.match import Known
from bridges.pipeline.stored_rows import stored_rows
from bridges.pipeline.target import Target
from bridges.sources.tuning_logs.formats import MS_SWIFT
from bridges.sources.tuning_logs.matching import same_rows
from bridges.stream import logged
from bridges.stream.model import Int64, Log, MetricStream, Run


def with_stored_rows(run: Run, known: Known, target: Target) -> tuple[Run, Run] | None:
    """The run with the rows that the target stores, and the run with exact rows instead.

    Rows that the target lacks follow. None if the stored rows differ from those of the run by more
    than the rounding of a log.
    """
    exporter, history = target.exporter, known.state.history
    stream = stored_rows(run, known.existing, known.state.rows, target)
    if stream is None:
        return None
    added = [row.row for row in known.state.added]
    log = _matched(run, stream.take(np.setdiff1d(np.arange(len(stream)), added)), exporter)
    if log is None:
        return None
    own = known.state.logged or ((0, history, 0),)
    by_row = tuple((start, stop, start) for start, stop, _ in own)
    if _is_in_place(run, log, logged.lines_of(by_row, history)):
        stored = logged.as_stored(run, log, by_row, history)
        exact = logged.as_stored(run, log, by_row, history, exact=True)
    elif len(np.unique(log.same[log.same >= 0])) == len(run.history):  # the state is shorter
        stored = exact = logged.as_stored(run, log, ((0, history, 0),), history)
    else:
        return None
    if stored is None or exact is None:
        return None
    kept = replace(stored, logged=own)
    return kept, kept if exact is stored else exact


def _matched(run: Run, stream: MetricStream, exporter: Exporter) -> Log | None:
    """The target's rows as a log of the run; None if they contradict it or share no row."""
    numbers = tuple(
        replace(part, values=as_stored(exporter, part.values)) for part in run.history.numbers
    )
    mine = replace(run.history, series=numbers)
    rounding = 2 * float(np.finfo(as_stored(exporter, np.zeros(1)).dtype).eps)
    same, contradicted = same_rows(mine, stream, MS_SWIFT.digits, rounding)
    return Log(stream, same) if contradicted is None and (same >= 0).any() else None


def _is_in_place(run: Run, log: Log, lines: Int64) -> bool:
    """Whether the stored rows that are not from a log are the first other rows of the run."""
    left = np.setdiff1d(np.arange(len(run.history)), log.same[lines >= 0])
    others = log.same[lines < 0]
    return np.array_equal(left[: len(others)], others)
