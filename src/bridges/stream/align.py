"""Alignment: the step of each row, the x-axis, and several points of a key at one step.

The order of the rows is kept: nothing sorts by epoch or derives a step from an epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ExportError
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.model import Int64, MetricStream, Series

EPOCH_SCALE = 1000  # an integer x-axis is round(epoch * EPOCH_SCALE)


def fill_steps(step: Int64, known: NDArray[np.bool_]) -> tuple[Int64, list[Finding]]:
    """Give each row without a step the step of the previous row (0 before the first)."""
    if known.all():
        return step, []
    last_known = np.maximum.accumulate(np.where(known, np.arange(len(step)), -1))
    filled = np.where(last_known < 0, 0, step[last_known])
    missing = np.flatnonzero(~known)
    message = "rows without a step get the step of the previous row"
    finding = Finding.at_rows("step-missing", Severity.WARNING, missing, message)
    return filled.astype(np.int64), [finding]


def epoch_axis(
    stream: MetricStream, key: str | None = "epoch"
) -> tuple[MetricStream, list[Finding]]:
    """Replace the step by round(epoch x 1000); a row without an epoch gets the previous one.

    `key`: the metric with the epochs; None if the steps are epochs.
    The scale is for trackers with integer steps. A falling epoch (a resume) keeps its position in
    the log and is a finding.
    """
    epoch = np.full(len(stream), np.nan) if key is not None else stream.step.astype(np.float64)
    if key is not None:
        rows, values = stream.column(key)
        epoch[rows] = values
    known = ~np.isnan(epoch) & (np.abs(epoch) < 2**53 / EPOCH_SCALE)
    scaled = np.rint(np.where(known, epoch, 0.0) * EPOCH_SCALE).astype(np.int64)
    axis, missing = fill_steps(scaled, known)
    findings = [
        replace(finding, code="epoch-missing", message="rows without an epoch get the previous one")
        for finding in missing
    ]
    falls = np.flatnonzero(np.diff(axis) < 0) + 1
    if len(falls):
        message = "the epoch falls here, so the x-axis goes back; --x-axis step does not"
        code = "epoch-falls-on-axis"
        findings.append(Finding.at_rows(code, Severity.WARNING, falls, message))
    axis_note = Finding(
        "x-axis-epoch",
        Severity.INFO,
        "step",
        f"the step of every point is round(epoch x {EPOCH_SCALE})",
        len(stream),
    )
    return replace(stream, step=axis), [axis_note, *findings]


def steps_in_order(stream: MetricStream) -> tuple[MetricStream, list[Finding]]:
    """Give rows of keys without steps (several points, all at step 0) their position as step.

    Such rows are counted in the order of time; a row with a point of another key keeps its step.
    """
    keys = keys_without_steps(stream)
    rows = rows_without_steps(stream, keys)
    if not len(rows):
        return stream, []
    step = stream.step.copy()
    step[rows] = np.arange(len(rows))
    return replace(stream, step=step), [steps_from_order(keys, step[rows])]


def keys_without_steps(stream: MetricStream) -> list[str]:
    """The keys with several points, all at step 0."""
    points: dict[str, int] = {}
    for part in stream.series:
        known = points.get(part.key, 0)
        points[part.key] = known + len(part.rows) if known >= 0 else known
        if stream.step[part.rows].any():
            points[part.key] = -1
    return [key for key, count in points.items() if count >= 2]


def rows_without_steps(stream: MetricStream, keys: Collection[str]) -> Int64:
    """The rows with points of these keys only (int64, n)."""
    has_no_steps, chosen = np.ones(len(stream), bool), {*keys}
    for part in stream.series:
        if part.key not in chosen:
            has_no_steps[part.rows] = False
    return np.flatnonzero(has_no_steps) if chosen else np.empty(0, np.int64)


def steps_from_order(keys: Sequence[str], steps: Int64) -> Finding:
    """The note about keys whose points got these steps."""
    message = (
        f"all points of these keys are at step 0: they get the steps {steps.min():,} to "
        f"{steps.max():,}, in the order of time (--steps as-logged keeps 0)"
    )
    where = f"keys {', '.join(map(repr, keys[:5]))}{' …' if len(keys) > 5 else ''}"
    return Finding("steps-from-order", Severity.INFO, where, message, len(steps))


def apply_duplicates(
    stream: MetricStream, policy: str, append_rows: Sequence[int] = ()
) -> tuple[MetricStream, list[Finding]]:
    """Keep `all` points of one key at one step, the `first` or the `last`, or raise (`error`).

    Rows are never removed. `append_rows`: the row count after each earlier write to the target;
    written points stay, so `last` is the last point within each write. Raises ExportError if the
    policy is `error` and a key other than `epoch` has two values at one step.
    """
    if policy == "all":
        return stream, []
    kept, dropped = [], 0
    for key in stream.keys:
        parts = [series for series in stream.series if series.key == key]
        keep = _kept_rows(stream, parts, policy, append_rows)
        for part in parts:
            mask = keep[part.rows]
            dropped += int((~mask).sum())
            if mask.any():
                kept.append(part.only(mask))
    if not dropped:
        return stream, []
    note = Finding(
        "duplicates-dropped",
        Severity.INFO,
        "all keys",
        f"several points of one key at one step: only the {policy} is kept",
        dropped,
    )
    return replace(stream, series=tuple(kept)), [note]


def merge_steps(stream: MetricStream) -> MetricStream:
    """Merge the rows of each step, sorted by step; the last value of each key is kept.

    A merged row has the time and kind of its last row. `hidden_duplicates` counts the lost values.
    """
    last_of_key, _ = apply_duplicates(stream, "last")
    steps, place = np.unique(stream.step, return_inverse=True)
    last = np.zeros(len(steps), np.int64)
    np.maximum.at(last, place, np.arange(len(stream)))
    merged = []
    for series in last_of_key.series:
        order = np.argsort(place[series.rows], kind="stable")
        merged.append(replace(series.only(order), rows=place[series.rows][order]))
    time = None if stream.time is None else stream.time[last]
    return MetricStream(steps, stream.kind[last], tuple(merged), time)


def _kept_rows(
    stream: MetricStream, parts: list[Series], policy: str, append_rows: Sequence[int]
) -> NDArray[np.bool_]:
    rows = np.sort(np.concatenate([part.rows for part in parts]))
    steps = stream.step[rows]
    if policy == "error":
        _refuse_duplicates(parts[0].key, rows, steps)
        kept = rows
    elif policy == "first":
        kept = rows[np.unique(steps, return_index=True)[1]]
    else:
        segment = np.searchsorted(np.asarray(append_rows), rows, side="right")
        order = np.lexsort((rows, steps, segment))
        same = (np.diff(segment[order]) == 0) & (np.diff(steps[order]) == 0)
        kept = rows[order][np.append(~same, True)]
    keep = np.zeros(len(stream), bool)
    keep[kept] = True
    return keep


def _refuse_duplicates(key: str, rows: Int64, steps: Int64) -> None:
    unique, counts = np.unique(steps, return_counts=True)
    if key == "epoch" or not (counts > 1).any():
        return
    twice = int(unique[counts > 1][0])
    raise ExportError(
        f"key {key!r} is logged more than once at step {twice} "
        f"({name_rows(rows[steps == twice])}), and --duplicates is 'error'. "
        "Choose --duplicates all, first or last."
    )


def hidden_duplicates(stream: MetricStream) -> int:
    """The number of values that differ from the last value of the same key and step."""
    if (stream.step[1:] > stream.step[:-1]).all():
        return 0
    parts: dict[str, list[Series]] = {}
    for series in stream.series:
        parts.setdefault(series.key, []).append(series)
    return sum(_hidden(stream, of_key) for of_key in parts.values())


def _hidden(stream: MetricStream, parts: list[Series]) -> int:
    rows = parts[0].rows if len(parts) == 1 else np.concatenate([part.rows for part in parts])
    steps = stream.step[rows]
    if len(parts) == 1 and (steps[1:] > steps[:-1]).all():
        return 0
    order = np.lexsort((rows, steps)) if len(parts) > 1 else np.argsort(steps, kind="stable")
    steps = steps[order]
    is_last = np.append(steps[1:] != steps[:-1], True)
    if is_last.all():
        return 0
    values = _comparable(parts)[order]
    last = values[is_last][np.cumsum(is_last) - is_last]
    return int((values != last).sum())


def _comparable(parts: list[Series]) -> NDArray[Any]:
    """The values of all parts as an array whose entries are equal exactly for equal values."""
    if any(part.values.dtype == object for part in parts):
        texts = [repr(value) for part in parts for value in part.values.tolist()]
        return np.array(texts, object)
    values = np.concatenate([part.values for part in parts])
    if values.dtype.kind != "f":
        return values
    return np.where(np.isnan(values), np.nan, values).view(np.int64)
