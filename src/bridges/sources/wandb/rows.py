"""The rows of a W&B run: their steps and times; rows of system metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from bridges.formats.wandb_log.records import MAX_SECONDS, Stats
from bridges.formats.wandb_log.rows import Column
from bridges.sources.wandb.content import Content
from bridges.sources.wandb.steps import STEP, Mask, Rows
from bridges.sources.wandb.values import INT64_BOUND, own_numbers
from bridges.stream.clock import SECOND
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64, MetricStream, RowKind, Series


def rows_of(content: Content) -> tuple[Rows, Int64, list[Finding]]:
    """The rows and their times (microseconds since 1970 UTC), with findings.

    Rows of several writers (shared mode) have no common steps: they are sorted by time and
    numbered. Rows that a rewind took back are removed from the content.
    """
    log_of_row = np.repeat(np.arange(len(content.logs)), [log.rows for log in content.logs])
    time, notes = _times(content)
    values, has_step = own_numbers(content.columns, STEP, content.count)
    has_step &= (values == np.rint(values)) & (np.abs(values) < INT64_BOUND)
    is_shared = any(log.log.is_shared for log in content.logs)
    if content.count and (is_shared or not has_step.any()):
        return _sorted_by_time(content, time, notes)
    step = np.where(has_step, values, 0).astype(np.int64)
    for row in np.flatnonzero(~has_step).tolist():
        step[row] = step[row - 1] + 1 if row else 0
    notes += _renumbered(content, step, log_of_row)
    is_kept, rewound = _without_rewound(content, step, log_of_row)
    if rewound:
        content.keep(is_kept)
        step, log_of_row, time = step[is_kept], log_of_row[is_kept], time[is_kept]
    overlaps = _overlaps(content, step, log_of_row)
    return Rows(step, log_of_row), time, [*notes, *rewound, *overlaps]


def _sorted_by_time(
    content: Content, time: Int64, notes: list[Finding]
) -> tuple[Rows, Int64, list[Finding]]:
    """The rows sorted by time and numbered, in the content, too."""
    order = np.argsort(time, kind="stable")
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    content.columns[:] = [_moved(column, position) for column in content.columns]
    message = "rows without common steps, as several writers logged them: numbered in order of time"
    notes.append(Finding("shared-no-step", Severity.INFO, "all rows", message, content.count))
    rows = Rows(np.arange(content.count), np.zeros(content.count, np.int64))
    return rows, time[order], notes


def _renumbered(content: Content, step: Int64, log_of_row: Int64) -> list[Finding]:
    """Number the rows of resumed logs on from the rows before, in place; findings about them.

    An offline log begins at step 0 also if it resumes a run. `wandb sync` changes a step that is
    not above the one before it to the next step. So does this.
    """
    found = []
    for number, log in enumerate(content.logs[1:], 1):
        own = np.flatnonzero(log_of_row == number)
        if not (log.run.is_resumed and len(own) and own[0]):
            continue
        logged, order = step[own], np.arange(len(own))
        after = step[: own[0]].max() + 1
        step[own] = order + np.maximum(np.maximum.accumulate(logged - order), after)
        count = int((step[own] != logged).sum())
        if count:
            message = (
                "the run was resumed offline, where steps begin at 0 again: these rows are "
                "numbered on, as `wandb sync` does it"
            )
            found.append(Finding("resumed-steps", Severity.INFO, log.place, message, count))
    return found


def _without_rewound(
    content: Content, step: Int64, log_of_row: Int64
) -> tuple[Mask, list[Finding]]:
    """Which rows (bool, n) no rewind took back, and findings about the others.

    A rewind (`resume_from`) goes on behind a step: the later rows of the logs before are void.
    """
    is_kept, found = np.ones(len(step), bool), []
    for number, log in enumerate(content.logs[1:], 1):
        if (last := log.run.rewound_to) is None:
            continue
        is_void = is_kept & (log_of_row < number) & (step > last)
        if count := int(is_void.sum()):
            message = f"the run was rewound to step {last:,}: its rows behind that are left out"
            found.append(Finding("rows-rewound", Severity.INFO, log.place, message, count))
            is_kept &= ~is_void
    return is_kept, found


def _moved(column: Column, position: Int64) -> Column:
    rows = position[column.rows]
    order = np.argsort(rows)
    return Column(column.path, rows[order], column.values[order])


def _times(content: Content) -> tuple[Int64, list[Finding]]:
    """The time of each row; others get the time of the row before."""
    seconds, has_time = own_numbers(content.columns, "_timestamp", content.count)
    has_time &= np.abs(seconds) < MAX_SECONDS  # false for NaN
    time = np.zeros(content.count, np.int64)
    time[has_time] = np.rint(seconds[has_time] * SECOND).astype(np.int64)
    missing = np.flatnonzero(~has_time)
    known = np.maximum.accumulate(np.where(has_time, np.arange(content.count), -1))
    start = content.record.start or int(time[has_time][0] if has_time.any() else 0)
    time[missing] = np.where(known[missing] >= 0, time[known[missing]], start)
    notes = []
    if len(missing):
        message = "rows without a time get the time of the row before them, or of the run's start"
        notes.append(Finding.at_rows("row-without-time", Severity.WARNING, missing, message))
    if content.count > 1 and not (time % SECOND).any():
        message = "the times are whole seconds, as the run's release of wandb logged them"
        count = content.count
        notes.append(Finding("seconds-resolution", Severity.INFO, "all rows", message, count))
    return time, notes


def _overlaps(content: Content, step: Int64, log_of_row: Int64) -> list[Finding]:
    """Findings about logs with steps of the logs before them."""
    found = []
    for number, log in enumerate(content.logs[1:], 1):
        before, own = step[log_of_row < number], step[log_of_row == number]
        count = int((own <= before.max()).sum()) if len(before) and len(own) else 0
        if count:
            message = (
                "the run was resumed at an earlier step: these rows share steps with earlier "
                "rows. All are kept; --duplicates chooses others"
            )
            where = log.place
            found.append(Finding("resumed-overlap", Severity.WARNING, where, message, count))
    return found


def moments_of(rows: Iterable[Mapping[str, object]]) -> Iterator[Stats]:
    """The system metrics in rows with a time."""
    for row in rows:
        time = row.get("_timestamp")
        if isinstance(time, (int, float)) and 0 < time < MAX_SECONDS:  # false for NaN
            values = {key: value for key, value in row.items() if not key.startswith("_")}
            yield Stats(round(time * SECOND), values)


def with_system_metrics(stream: MetricStream, stats: Sequence[Stats]) -> MetricStream:
    """The stream with rows of system metrics, in order of time; their steps are their numbers."""
    assert stream.time is not None
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    for number, moment in enumerate(stats):
        for name, value in moment.values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                key = f"system/{name.replace(chr(92), '').removeprefix('system.')}"
                rows, values = found.setdefault((key, "f"), ([], []))
                rows.append(len(stream) + number)
                values.append(float(value))
    series = [Series(key, np.array(r), np.array(v)) for (key, _), (r, v) in found.items()]
    step = np.concatenate([stream.step, np.arange(len(stats))])
    time = np.concatenate([stream.time, np.array([moment.time for moment in stats], np.int64)])
    kind = np.concatenate([stream.kind, np.full(len(stats), RowKind.CUSTOM, np.uint8)])
    joined = MetricStream(step, kind, (*stream.series, *series), time)
    return joined.take(np.argsort(time, kind="stable"))
