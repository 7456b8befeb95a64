"""Match a run of event files and a table with a run that was exported from only one of them.

Of a run of event files alone, the target keeps the values, and gets those that only the table has.
The run of a table alone goes on with the rows of the table.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.exporters.base import ExistingRun, Exporter, Points, Recorded, as_stored
from bridges.pipeline.compare import bits
from bridges.pipeline.target import Target
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import EarlierValues, Int64, Run, Series


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


def with_earlier_values(
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
