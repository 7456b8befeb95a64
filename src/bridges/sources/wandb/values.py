"""Series from the columns of a history: objects under dotted keys, media counted, not kept.

Numbers are typed by value: wandb-core writes 1.0 as 1, so a whole float is an integer here, and a
run has the same values in its log and on a server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bridges.formats.wandb_log.items import Path
from bridges.formats.wandb_log.rows import Column
from bridges.stream.columns import as_array, typed_parts
from bridges.stream.model import Int64, Series, Values
from bridges.stream.tagging import digest

OWN = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})  # of wandb itself
TYPE = "_type"  # the leaf of an object of wandb's media types
INT64_BOUND = 2.0**63


@dataclass
class LeftOut:
    """What a history has beyond its series.

    media: objects by type; nulls: null values; renamed: keys already taken
    """

    media: Counter[str] = field(default_factory=Counter)
    nulls: int = 0
    renamed: list[str] = field(default_factory=list)


def series_of(columns: Iterable[Column], *, is_exact: bool = False) -> tuple[list[Series], LeftOut]:
    """The series of all columns except wandb's own; `is_exact` keeps objects and whole floats."""
    left = LeftOut()
    found = [column for column in columns if column.path[0] not in OWN]
    if is_exact:
        return [Series(".".join(path), rows, values) for path, rows, values in found], left
    flat = [part for column in found for part in _flat(column, left)]
    parts: dict[tuple[Path, str], list[Column]] = {}
    for column in _without_media(flat, left):
        for part in _by_value(column):
            parts.setdefault((part.path, part.values.dtype.kind), []).append(part)
    joined = [_joined(members) for members in parts.values()]
    names = _names(dict.fromkeys(column.path for column in joined), left)
    return [Series(names[path], rows, values) for path, rows, values in joined], left


def _flat(column: Column, left: LeftOut) -> Iterator[Column]:
    """The column without null and objects, whose leaves become columns of their own."""
    path, rows, values = column
    if values.dtype != object:
        yield column
        return
    is_kept = np.array([v is not None and not isinstance(v, dict) for v in values], bool)
    left.nulls += sum(value is None for value in values)
    if is_kept.any():
        yield Column(path, rows[is_kept], values[is_kept])
    leaves: dict[Path, tuple[list[int], list[object]]] = {}
    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
        if isinstance(value, dict):
            for below, leaf in _leaves(value, path):
                at, found = leaves.setdefault(below, ([], []))
                at.append(row)
                found.append(leaf)
    for below, (at, found) in leaves.items():
        for part in typed_parts(np.array(at, np.int64), found)[0]:
            yield from _flat(Column(below, *part), left)


def _leaves(value: Mapping[str, object], path: Path) -> Iterator[tuple[Path, object]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _leaves(item, (*path, key))
        else:
            yield (*path, key), item


def _without_media(columns: list[Column], left: LeftOut) -> Iterator[Column]:
    """The columns without the leaves of media, which are counted by type."""
    media = [
        (path[:-1], rows)
        for path, rows, values in columns
        if len(path) > 1 and path[-1] == TYPE and values.dtype == object
    ]
    for path, rows, values in columns:
        if len(path) > 1 and path[-1] == TYPE and values.dtype == object:
            left.media.update(map(str, values.tolist()))
        of_media = [found for prefix, found in media if path[: len(prefix)] == prefix]
        if not of_media:
            yield Column(path, rows, values)
            continue
        is_kept = ~np.isin(rows, np.concatenate(of_media))
        if is_kept.any():
            yield Column(path, rows[is_kept], values[is_kept])


def _by_value(column: Column) -> Iterator[Column]:
    """The column with whole floats as integers; -0.0 stays."""
    path, rows, values = column
    if values.dtype != np.float64:
        yield column
        return
    is_whole = (values == np.rint(values)) & (np.abs(values) < INT64_BOUND)
    is_whole &= (values != 0) | ~np.signbit(values)
    if not is_whole.any():
        yield column
        return
    yield Column(path, rows[is_whole], values[is_whole].astype(np.int64))
    if not is_whole.all():
        yield Column(path, rows[~is_whole], values[~is_whole])


def _joined(members: list[Column]) -> Column:
    """One column of several with the same path and type."""
    if len(members) == 1:
        return members[0]
    rows: Int64 = np.concatenate([column.rows for column in members])
    values: Values = np.concatenate([column.values for column in members])
    order = np.argsort(rows, kind="stable")
    return Column(members[0].path, rows[order], values[order])


def _names(paths: Iterable[Path], left: LeftOut) -> dict[Path, str]:
    """A key for each path: its names with dots; a key already taken gets a suffix."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in sorted(paths, key=len):  # a name with a dot goes before a nested value
        name = ".".join(path)
        if name in taken:
            left.renamed.append(name)
            name = f"{name}-{digest(repr(path))}"
        taken.add(name)
        names[path] = name
    return names


def own_numbers(columns: Iterable[Column], name: str, count: int) -> tuple[Values, Values]:
    """One of wandb's own columns: float64 or int64 values of all rows, and whether each has one."""
    has_value = np.zeros(count, bool)
    own = (column for column in columns if column.path == (name,))
    found = [column for column in own if column.values.dtype != object]
    is_whole = all(column.values.dtype == np.int64 for column in found)
    values = np.zeros(count, np.int64 if is_whole else np.float64)
    for column in found:
        values[column.rows] = column.values
        has_value[column.rows] = True
    return values, has_value


def as_numbers(columns: Iterable[Column]) -> Iterator[Column]:
    """The columns of a server, which pads rows with null, and has the texts NaN and Infinity in
    place of these numbers. They stay texts beside other texts.
    """
    by_path: dict[Path, list[Column]] = {}
    for column in columns:
        by_path.setdefault(column.path, []).append(_without_null(column))
    for path, parts in by_path.items():
        texts = [value for part in parts if part.values.dtype == object for value in part.values]
        are_numbers = all(isinstance(value, str) and value in SPECIAL for value in texts)
        for part in parts:
            if part.values.dtype != object or (len(part.rows) and not are_numbers):
                yield part
            elif len(part.rows):
                found = as_array([SPECIAL[value] for value in part.values], float)
                yield Column(path, part.rows, found)


def _without_null(column: Column) -> Column:
    if column.values.dtype != object:
        return column
    is_kept = np.array([value is not None for value in column.values], bool)
    return Column(column.path, column.rows[is_kept], column.values[is_kept])


SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
