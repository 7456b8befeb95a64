"""W&B's limits: reserved keys, long rows, long names, merged steps.

The limits are those of W&B's documentation and of the client, which skips rows that are too long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bridges.errors import ConfigError, ExportError
from bridges.exporters.wandb.history import OWN, STEP_KEYS
from bridges.stream.align import hidden_duplicates, merge_steps
from bridges.stream.columns import as_array
from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.layout import Layout
from bridges.stream.model import NO_TIME, Int64, MetricStream, Series
from bridges.stream.tagging import distinct_tags, renamed

MAX_ROW_BYTES = 10 * 1024 * 1024 - 100 * 1024  # of JSON; the client skips longer rows
MAX_NAME_CHARS, MAX_TAG_CHARS = 128, 64
NUMBER_BYTES = 32  # upper bound, including separators
_SURROGATE = re.compile("[\ud800-\udfff]")
_PROJECT = re.compile(r"[^/\\#?%:]{1,128}\Z")


def check_project(project: str) -> str:
    """The name of a project. Raises ConfigError for one that W&B refuses."""
    if _PROJECT.match(project):
        return project
    raise ConfigError(
        f"--project {project!r} is not a name of a W&B project: found {len(project)} characters; "
        r"expected 1 to 128, none of them / \ # ? % :"
    )


def fit(layout: Layout, is_merged: bool) -> Layout:
    """The layout without values that W&B drops, its rows merged by step if `is_merged`."""
    layout = _nan_as_null(_clean(_without_refused(_with_row_times(layout))))
    if is_merged:
        layout = _merged(layout)
    return _without_long_rows(layout)


def _with_row_times(layout: Layout) -> Layout:
    """The layout with one time per row, that of its first point."""
    stream = layout.stream
    if all(part.time is None for part in stream.series):
        return layout
    assert stream.time is not None
    first = stream.first_times()
    first = np.where(first == NO_TIME, stream.time, first)
    count = sum(int((stream.times(part) != first[part.rows]).sum()) for part in stream.series)
    message = "W&B has one time for each row: these points have that of the first one of their row"
    found = [Finding("times-of-rows", Severity.INFO, "all rows", message, count)] if count else []
    return replace(layout, stream=stream.at(first), findings=(*layout.findings, *found))


def _without_refused(layout: Layout) -> Layout:
    keys = layout.stream.keys
    refused = {key for key in keys if key in OWN or key in ("", layout.naming.step_key)}
    if layout.run.key_style == "tags":
        return _renamed(layout, refused.union(STEP_KEYS).intersection(keys))
    if not refused:
        return layout
    kept = tuple(part for part in layout.stream.series if part.key not in refused)
    findings = [_refused(key, layout.stream) for key in sorted(refused)]
    stream = replace(layout.stream, series=kept)
    return replace(layout, stream=stream, findings=(*layout.findings, *findings))


def _renamed(layout: Layout, taken: Collection[str]) -> Layout:
    """The layout with new names for tags that wandb reserves."""
    if not taken:
        return layout
    stream, names = layout.stream, {key: f"tag/{key}" for key in taken}
    tags = distinct_tags(stream.keys, lambda key: names.get(key, key))
    first = min(taken)
    message = f"wandb has these keys of its own; {first!r} becomes {tags[first]!r}"
    found = renamed(sorted(taken), stream.series, message)
    stream = replace(stream, series=tuple(part.under(tags[part.key]) for part in stream.series))
    return replace(layout, stream=stream, findings=(*layout.findings, found))


def _refused(key: str, stream: MetricStream) -> Finding:
    count = sum(len(part.rows) for part in stream.series if part.key == key)
    own = f"wandb sets {key!r} itself, in place of this one, as with the live callback"
    message = own if key else "wandb drops values without a name, as with the live callback"
    return Finding("key-refused", Severity.WARNING, f"key {key!r}", message, count)


def _clean(layout: Layout) -> Layout:
    """Texts and objects as wandb sends them: no lone surrogates, no empty objects."""
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
    """NaN as null in the callback's own summary values, as wandb stores them."""
    found = [key for key, value in layout.summary.items() if value != value]
    if not found:
        return layout
    message = "wandb stores NaN as null in the summary, as with the live callback"
    finding = Finding("nan-in-summary", Severity.INFO, ", ".join(found), message, len(found))
    summary = {key: None if key in found else value for key, value in layout.summary.items()}
    return replace(layout, summary=summary, findings=(*layout.findings, finding))


def _merged(layout: Layout) -> Layout:
    """Merge the rows of each step; the result is another run than the unmerged one.

    Raises ExportError for a negative step, which W&B does not accept as `_step`.
    """
    if len(layout.stream) and layout.stream.step.min() < 0:
        raise ExportError(
            "the history has steps below 0, which W&B does not take as `_step`: leave out "
            "--wandb-step global_step"
        )
    merged = replace(layout, stream=merge_steps(layout.stream))
    overwritten = hidden_duplicates(layout.stream)
    if not overwritten:
        return merged
    message = (
        "points that a later row of the same step overwrites: leave out --wandb-step to keep "
        "all, or choose with --duplicates first or last"
    )
    finding = Finding("merge-overwrites", Severity.LOSS, "rows of one step", message, overwritten)
    return replace(merged, findings=(*merged.findings, finding))


def _without_long_rows(layout: Layout) -> Layout:
    """The layout without the values of rows that are too long to upload."""
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
        f"rows of up to {int(sizes.max()):,} bytes: W&B takes no more than {MAX_ROW_BYTES:,}, so "
        "their values are left out"
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


def tag_texts(tags: Mapping[str, str]) -> list[str]:
    """Tags as W&B texts: `key` or `key:value`, cut to 64 characters."""
    return [(f"{key}:{value}" if value else key)[:MAX_TAG_CHARS] for key, value in tags.items()]


def merged_tags(texts: Sequence[str], tags: Mapping[str, str]) -> list[str]:
    """Tag texts with new tags added, which replace those with the same keys."""
    fresh = tag_texts(tags)
    keys = {text.partition(":")[0] for text in fresh}
    return [*(text for text in texts if text.partition(":")[0] not in keys), *fresh]


def short(name: str) -> str:
    """A name of a run, group or job type, cut to W&B's limit."""
    return name[:MAX_NAME_CHARS]


def cuts(layout: Layout) -> list[Finding]:
    """Findings for names and tags that are too long for W&B."""
    run = layout.run
    names = [name for name in (run.name, run.group or "") if len(name) > MAX_NAME_CHARS]
    long = [
        Finding("name-cut", Severity.WARNING, f"name {name[:60]!r}", _cut(MAX_NAME_CHARS))
        for name in names
    ]
    return long + [
        Finding("tag-cut", Severity.WARNING, f"tag {key!r}", _cut(MAX_TAG_CHARS))
        for key, value in run.tags.items()
        if len(key) + len(value) + bool(value) > MAX_TAG_CHARS
    ]


def _cut(length: int) -> str:
    return f"W&B takes {length} characters, so it was cut"
