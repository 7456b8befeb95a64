"""Rows of a log that is gone, read back from the target that got them.

A run may hold rows of a tool's log that lay beside its state. If the log is deleted or cleared
later, neither these rows nor the digest over them can be computed again, so the target's own points
are compared with the state and take the place of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bridges.errors import VerifyError
from bridges.exporters.base import Exporter, as_stored
from bridges.huggingface.trainer_keys import row_kinds
from bridges.pipeline.layouts import Placer
from bridges.pipeline.match_existing import Known
from bridges.sources.tuning_logs.formats import MS_SWIFT
from bridges.sources.tuning_logs.matching import same_rows
from bridges.stream import logged
from bridges.stream.model import Int64, Log, MetricStream, Run, Series
from bridges.stream.naming import Naming

_PREFIXES = (("train/", ""), ("eval/", "eval_"), ("test/", "test_"), ("", ""))


def with_stored_rows(run: Run, known: Known, placer: Placer) -> tuple[Run, Run] | None:
    """The run with its rows as the target holds them, and the same with exact rows in place of the
    log's; rows that the target lacks follow.

    None if the target's rows are not those of the run, equal up to the digits of a log.
    """
    options, exporter, history = placer.options, placer.exporter, known.state.history
    naming = run.key_rules.naming(exporter.naming, options.naming, options.version)
    stream = _stored_stream(run, known, exporter, naming)
    log = None if stream is None else _matched(run, stream, exporter)
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
    """The target's rows as a log of the run; None if they contradict it or share no row with it."""
    numbers = tuple(
        replace(part, values=as_stored(exporter, part.values)) for part in run.history.numbers
    )
    mine = replace(run.history, series=numbers)
    rounding = 2 * float(np.finfo(as_stored(exporter, np.zeros(1)).dtype).eps)
    same, contradicted = same_rows(mine, stream, MS_SWIFT.digits, rounding)
    return Log(stream, same) if contradicted is None and (same >= 0).any() else None


def _is_in_place(run: Run, log: Log, lines: Int64) -> bool:
    """Whether the rows that the target did not get from a log are the first others of the run."""
    left = np.setdiff1d(np.arange(len(run.history)), log.same[lines >= 0])
    others = log.same[lines < 0]
    return np.array_equal(left[: len(others)], others)


def _stored_stream(
    run: Run, known: Known, exporter: Exporter, naming: Naming
) -> MetricStream | None:
    """The rows of the history that the target holds, under the keys of their tags.

    Rows are told apart by their times. None if the points do not make as many rows as were written,
    or if the key of a tag is not known.
    """
    try:
        points = exporter.read_back(known.existing).points
    except VerifyError:
        return None
    times = np.unique(np.concatenate([part.time for part in points.values()] or [np.empty(0)]))
    keys = {tag: key for tag in points if (key := _key_of(tag, run.stream.keys, naming))}
    if len(times) != known.state.rows or keys.keys() != points.keys():
        return None
    step, series = np.zeros(len(times), np.int64), []
    for tag, part in points.items():
        order = np.argsort(part.time, kind="stable")
        rows = np.searchsorted(times, part.time[order])
        step[rows] = part.step[order]
        series.append(Series(keys[tag], rows, part.value[order].astype(np.float64)))
    stream = MetricStream(step, row_kinds(len(times), series), tuple(series))
    added = [row.row for row in known.state.added]
    return stream.take(np.setdiff1d(np.arange(len(times)), added))


def _key_of(tag: str, keys: Sequence[str], naming: Naming) -> str | None:
    """The key of a tag: one of the run, or one that only the log had."""
    guesses = (key + tag[len(prefix) :] for prefix, key in _PREFIXES if tag.startswith(prefix))
    return next((key for key in (*keys, *guesses) if naming.tag(key) == tag), None)
