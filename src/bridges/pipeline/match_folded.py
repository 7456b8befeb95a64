"""Match a run of event files and a table with a run that was exported from only one of them.

Of a run of event files alone, the target keeps the values, and gets those that only the table has.
Rows that the table had before the event files keep the times that they got then.
The run of a table alone goes on with the rows of the table.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.exporters.base import ExistingRun, Exporter, Points, Recorded, as_stored
from bridges.pipeline.compare import bits
from bridges.pipeline.target import Target
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import EarlierValues, Int64, MetricStream, Run, Series

TICK = 1000  # microseconds, to which some targets round times


def parts_of(run: Run, target: Target) -> dict[str, Run]:
    """The tables that are part of a run, each as a run of its own, by its key in the target."""
    parts = (
        replace(part, name=run.name, run_name=run.run_name, group=run.group, tags=run.tags)
        for part in run.folded
    )
    ruled = (replace(part, key_rules=run.key_rules) for part in parts)
    return {target.identity(part).key: part for part in ruled}


def left_out(run: Run, part: Run, one: ExistingRun) -> Finding:
    """The finding about the points that only the event files have."""
    lost = max(0, run.stream.points - part.stream.points)
    message = (
        "the target has this run as its table was exported, before its event files were found. It "
        f"goes on with the rows and times of the table; {lost:,} points of the event files alone "
        "are left out. To have both, delete the run in the target and export it again"
    )
    severity = Severity.LOSS if lost else Severity.INFO
    return Finding("events-left-out", severity, one.location, message, max(1, lost))


def as_written(run: Run, recorded: Recorded, tags: dict[str, str], exporter: Exporter) -> Run:
    """The run with the values and times that the target has of its points."""
    return _with_stored_times(
        _with_earlier_values(run, recorded, tags, exporter), recorded, tags, exporter
    )


def _with_stored_times(
    run: Run, recorded: Recorded, tags: dict[str, str], exporter: Exporter
) -> Run:
    """The run with the time of each point that the target has at another time."""
    stream = run.stream
    if stream.time is None:
        return run
    row_time, series = stream.time.copy(), []
    for part in stream.series:
        points = recorded.points.get(tags.get(part.key, ""))
        if points is not None and part.is_number:
            time = _stored_times(part, stream, points, exporter)
            is_moved = time != stream.times(part)
            row_time[part.rows[is_moved]] = time[is_moved]
            part = replace(part, time=time) if is_moved.any() else part
        series.append(part)
    if not (row_time != stream.time).any():
        return run
    kept = (  # points at the time of their row stay there
        part if part.time is not None else replace(part, time=stream.times(part)) for part in series
    )
    return replace(run, stream=replace(stream, series=tuple(kept), time=row_time))


def _stored_times(part: Series, stream: MetricStream, points: Points, exporter: Exporter) -> Int64:
    """The times of the values, in the target where it has one with the same step and value."""
    own = stream.times(part)
    there = dict(
        zip(
            zip(points.step.tolist(), bits(points.value).tolist(), strict=True),
            np.rint(points.time * 1e6).astype(np.int64).tolist(),
            strict=True,
        )
    )
    values = bits(as_stored(exporter, part.values)).tolist()
    mine = [*zip(stream.step[part.rows].tolist(), values, strict=True)]
    is_unique = len(there) == len(points.step) and len({*mine}) == len(mine)
    if not is_unique:  # equal points may have different times
        return own
    found = np.array([there.get(each, at) for each, at in zip(mine, own.tolist(), strict=True)])
    return np.where(np.abs(found - own) < TICK, own, found).astype(np.int64)


def _with_earlier_values(
    run: Run, recorded: Recorded, tags: dict[str, str], exporter: Exporter
) -> Run:
    """The run with those values of its event files that the target has instead of the table's."""
    series, kept = [], 0
    for part in run.stream.series:
        earlier = run.earlier_values.get(part.key)
        points = recorded.points.get(tags.get(part.key, ""))
        if earlier is not None and points is not None and part.values.dtype == np.float64:
            changed = _settled(part, run.stream.step[part.rows], earlier, points, exporter)
            kept += int((bits(changed.values) != bits(part.values)).sum())
            part = changed
        series.append(part)
    if not kept:
        return run
    message = "the target has these values from the event files, with 32 bits: it keeps them"
    note = Finding("event-values-kept", Severity.INFO, run.source, message, kept)
    stream = replace(run.stream, series=tuple(series))
    return replace(run, stream=stream, findings=(*run.findings, note))


def _settled(
    part: Series,
    step: Int64,
    earlier: EarlierValues,
    points: Points,
    exporter: Exporter,
) -> Series:
    """The series with the earlier values that the target has."""
    before = {
        (at, value): old
        for at, value, old in zip(
            earlier.step.tolist(), earlier.value.tolist(), earlier.earlier.tolist(), strict=True
        )
    }
    there = {*zip(points.step.tolist(), points.value.tolist(), strict=True)}
    old = [
        before.get(each, each[1]) for each in zip(step.tolist(), part.values.tolist(), strict=True)
    ]
    stored_new = as_stored(exporter, part.values).tolist()
    stored_old = as_stored(exporter, np.array(old)).tolist()
    values = [
        was if (at, stored_was) in there and (at, stored) not in there else value
        for at, value, was, stored, stored_was in zip(
            step.tolist(), part.values.tolist(), old, stored_new, stored_old, strict=True
        )
    ]
    return replace(part, values=np.array(values))
