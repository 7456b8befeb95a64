"""Adapts a layout to W&B: reserved keys, long rows, merged steps, cleaned values.

The limits come from W&B's documentation and from the client, which skips rows that are too long.
Each change is a finding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.changes import with_legal_keys
from bridges.exporters.wandb.history import OWN, STEP_KEYS
from bridges.exporters.wandb.limits import MAX_NAME_CHARS, MAX_TAG_CHARS, group_of
from bridges.stream.align import hidden_duplicates, merge_steps
from bridges.stream.columns import as_array
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.layout import Layout, with_steps
from bridges.stream.model import NO_TIME, Int64, MetricStream, Series

MAX_ROW_BYTES = 10 * 1024 * 1024 - 100 * 1024  # of JSON; the client skips longer rows
NUMBER_BYTES = 32  # upper bound, including separators
_SURROGATE = re.compile("[\ud800-\udfff]")


def adapt(layout: Layout, is_merged: bool) -> Layout:
    """The layout with the values that W&B stores; `is_merged` merges the rows of each step."""
    layout = _nan_as_null(_clean(_without_reserved(_with_row_times(with_steps(layout)))))
    if is_merged:
        layout = _merged(layout)
    layout = _without_long_rows(layout)
    return replace(layout, findings=(*layout.findings, *_cut_names(layout)))


def _with_row_times(layout: Layout) -> Layout:
    """The layout with one time per row, the time of its first point."""
    stream = layout.stream
    if all(part.time is None for part in stream.series):
        return layout
    assert stream.time is not None
    first = stream.first_times()
    first = np.where(first == NO_TIME, stream.time, first)
    count = sum(int((stream.times(part) != first[part.rows]).sum()) for part in stream.series)
    message = "W&B stores one time per row: these points get the time of their row's first point"
    found = [Finding("times-of-rows", Severity.INFO, "all rows", message, count)] if count else []
    return replace(layout, stream=stream.at(first), findings=(*layout.findings, *found))


def _without_reserved(layout: Layout) -> Layout:
    """The layout without wandb's reserved keys; tags are renamed instead."""
    keys = layout.stream.keys
    reserved = {key for key in keys if key in OWN or key in ("", layout.naming.step_key)}
    if layout.run.key_style == "tags":
        return _renamed(layout, reserved.union(STEP_KEYS).intersection(keys))
    if not reserved:
        return layout
    kept = tuple(part for part in layout.stream.series if part.key not in reserved)
    findings = [_refused(key, layout.stream) for key in sorted(reserved)]
    stream = replace(layout.stream, series=kept)
    return replace(layout, stream=stream, findings=(*layout.findings, *findings))


def _renamed(layout: Layout, taken: Collection[str]) -> Layout:
    """The layout with new names for reserved tags."""
    names = {key: f"tag/{key}" for key in taken}
    return with_legal_keys(layout, lambda key: names.get(key, key), "wandb")


def _refused(key: str, stream: MetricStream) -> Finding:
    count = sum(len(part.rows) for part in stream.series if part.key == key)
    own = f"wandb replaces {key!r} by its own value, as with the live callback"
    message = own if key else "wandb drops values without a name, as with the live callback"
    return Finding("key-refused", Severity.WARNING, f"key {key!r}", message, count)


def _clean(layout: Layout) -> Layout:
    """Texts and objects in wandb's form: without lone surrogates and empty objects."""
    changed, series = 0, []
    for part in layout.stream.series:
        cleaned = part if part.is_number else _cleaned(part)
        if cleaned is not part:
            changed += _differences(part, cleaned)
        series.append(cleaned)
    if not changed:
        return layout
    message = (
        "wandb drops empty objects, and lone surrogates become U+FFFD, as with the live callback"
    )
    finding = Finding("value-cleaned", Severity.INFO, "texts and objects", message, changed)
    stream = replace(layout.stream, series=tuple(part for part in series if len(part.rows)))
    return replace(layout, stream=stream, findings=(*layout.findings, finding))


def _cleaned(series: Series) -> Series:
    """The cleaned series; the same object if nothing changes."""
    found = [_passed_on(value) for value in series.values.tolist()]
    if found == series.values.tolist():
        return series
    stays = np.array([value != {} for value in found], bool)
    return replace(series, values=as_array(found, object)).only(stays)


def _differences(before: Series, after: Series) -> int:
    kept = before.values[np.isin(before.rows, after.rows)].tolist()
    lost = len(before.rows) - len(after.rows)
    changed = [a for a, b in zip(kept, after.values.tolist(), strict=True) if a != b]
    return lost + len(changed)


def _passed_on(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return _without_empty(json.loads(_SURROGATE.sub("\ufffd", text)))


def _without_empty(value: Any) -> Any:
    """An object without nested empty objects; those in lists stay."""
    if not isinstance(value, dict):
        return value
    items = {key: _without_empty(item) for key, item in value.items()}
    return {key: item for key, item in items.items() if item != {}}


def _nan_as_null(layout: Layout) -> Layout:
    """The layout with null for NaN in the callback's own summary values."""
    found = [key for key, value in layout.summary.items() if value != value]
    if not found:
        return layout
    message = "wandb stores NaN as null in the summary, as with the live callback"
    finding = Finding("nan-in-summary", Severity.INFO, ", ".join(found), message, len(found))
    summary = {key: None if key in found else value for key, value in layout.summary.items()}
    return replace(layout, summary=summary, findings=(*layout.findings, finding))


def _merged(layout: Layout) -> Layout:
    """The layout with one row per step. Raises ExportError for a negative step."""
    if len(layout.stream) and layout.stream.step.min() < 0:
        raise ExportError(
            "the history has steps below 0, which W&B does not accept as `_step`: remove "
            "--wandb-step global_step"
        )
    merged = replace(layout, stream=merge_steps(layout.stream))
    overwritten = hidden_duplicates(layout.stream)
    if not overwritten:
        return merged
    message = (
        "a later row of the same step overwrites these points: remove --wandb-step to keep all, or "
        "choose with --duplicates first or last"
    )
    finding = Finding("merge-overwrites", Severity.LOSS, "rows of one step", message, overwritten)
    return replace(merged, findings=(*merged.findings, finding))


def _without_long_rows(layout: Layout) -> Layout:
    """The layout without the values of rows that are too long for W&B."""
    stream = layout.stream
    sizes = _row_sizes(stream)
    long = np.flatnonzero(sizes > MAX_ROW_BYTES)
    if not len(long):
        return layout
    kept, lost = [], 0
    for series in stream.series:
        stays = ~np.isin(series.rows, long)
        lost += int((~stays).sum())
        kept.append(series.only(stays))
    message = (
        f"rows of up to {int(sizes.max()):,} bytes are omitted: W&B accepts rows of at most "
        f"{MAX_ROW_BYTES:,} bytes"
    )
    finding = Finding("row-too-long", Severity.LOSS, name_rows(long), message, lost)
    kept = [series for series in kept if len(series.rows)]
    return replace(
        layout,
        stream=replace(stream, series=tuple(kept)),
        findings=(*layout.findings, finding),
    )


def _row_sizes(stream: MetricStream) -> Int64:
    """An upper bound of each row's JSON bytes (int64, n); zeros if no row can be too long."""
    keys = sum(len(series.key.encode()) + NUMBER_BYTES for series in stream.series)
    if keys < MAX_ROW_BYTES and all(series.is_number for series in stream.series):
        return np.zeros(len(stream), np.int64)
    sizes = np.zeros(len(stream), np.int64)
    for series in stream.series:
        name = len(json.dumps(series.key))
        if series.is_number:
            sizes[series.rows] += name + NUMBER_BYTES
        else:
            values = series.values.tolist()
            sizes[series.rows] += [name + len(json.dumps(value)) + 4 for value in values]
    return sizes


def _cut_names(layout: Layout) -> list[Finding]:
    """Findings for names and tags that are too long for W&B."""
    run = layout.run
    names = [name for name in (run.name, group_of(run) or "") if len(name) > MAX_NAME_CHARS]
    texts = {key: f"{key}:{value}" if value else key for key, value in run.tags.items()}
    tags = [key for key, text in texts.items() if len(text) > MAX_TAG_CHARS]
    return [
        *(_cut("name-cut", f"name {name[:60]!r}", MAX_NAME_CHARS) for name in names),
        *(_cut("tag-cut", f"tag {key!r}", MAX_TAG_CHARS) for key in tags),
    ]


def _cut(code: str, where: str, length: int) -> Finding:
    return Finding(code, Severity.WARNING, where, f"it is cut to {length} characters, W&B's limit")
