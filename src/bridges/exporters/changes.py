"""Changes of a layout that a target needs, each with its finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bridges.stream.columns import as_array
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout, with_steps
from bridges.stream.model import Series
from bridges.stream.tagging import distinct_tags, renamed

__all__ = ["with_changed_values", "with_legal_keys", "with_steps"]


def with_legal_keys(layout: Layout, legal: Callable[[str], str], target: str) -> Layout:
    """The layout with other names for keys that the target reserves.

    `legal` gives the name for a key. A name in use gets a suffix.
    """
    stream = layout.stream
    taken = sorted(key for key in stream.keys if legal(key) != key)
    if not taken:
        return layout
    tags = distinct_tags(stream.keys, legal)
    message = f"{target} reserves these keys; {taken[0]!r} becomes {tags[taken[0]]!r}"
    found = renamed(taken, stream.series, message)
    stream = replace(stream, series=tuple(part.under(tags[part.key]) for part in stream.series))
    return replace(layout, stream=stream, findings=(*layout.findings, found))


def with_changed_values(layout: Layout, change: Callable[[object], object], message: str) -> Layout:
    """The layout with other texts and objects, and a finding with the number of changed ones.

    Values of the summary are changed, too.
    """
    pairs = [
        (part, part if part.is_number else _changed(part, change)) for part in layout.stream.series
    ]
    count = sum(_differences(before, after) for before, after in pairs if before is not after)
    summary = {
        key: value if isinstance(value, bool | int | float) else change(value)
        for key, value in layout.summary.items()
    }
    count += sum(repr(summary[key]) != repr(value) for key, value in layout.summary.items())
    if not count:
        return layout
    found = Finding("value-cleaned", Severity.INFO, "texts and objects", message, count)
    stream = replace(layout.stream, series=tuple(after for _, after in pairs))
    return replace(layout, stream=stream, summary=summary, findings=(*layout.findings, found))


def _changed(series: Series, change: Callable[[object], object]) -> Series:
    return replace(series, values=as_array([*map(change, series.values.tolist())], object))


def _differences(before: Series, after: Series) -> int:
    """The number of values that differ; NaN, also within an object, equals NaN."""
    pairs = zip(before.values.tolist(), after.values.tolist(), strict=True)
    return sum(repr(one) != repr(other) for one, other in pairs)
