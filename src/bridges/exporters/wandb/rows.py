"""The points of a W&B run from the columns of its history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from bridges.exporters.base import Points, Recorded
from bridges.exporters.wandb.history import OWN, STEP_KEYS
from bridges.formats.wandb_log.rows import Column
from bridges.stream.columns import RowColumns, as_array
from bridges.stream.model import Float64, Int64

Columns = Mapping[str, Sequence[Column]]  # by key: a column for each type


def recorded(columns: Iterable[Column], count: int) -> Recorded:
    """The points of columns of `count` rows. Raises ValueError if a step or time is missing."""
    by_key: dict[str, list[Column]] = {}
    for column in with_objects(columns):
        by_key.setdefault(column.path[0], []).append(column)
    step_key = next((key for key in STEP_KEYS if _has_all(by_key, key, count)), STEP_KEYS[0])
    step = _steps(by_key, step_key, count)
    time = _own(by_key, "_timestamp", count)
    points, others = {}, []
    for key, parts in by_key.items():
        if key == step_key or key in OWN:
            continue
        rows, values = _numbers(parts)
        if len(rows):
            points[key] = Points(step[rows], values, time[rows])
        for part in parts:
            if part.values.dtype == object:
                pairs = zip(step[part.rows].tolist(), part.values.tolist(), strict=True)
                others += [(key, at, value) for at, value in pairs]
    return Recorded(points, tuple(others))


def first_step(columns: Sequence[Column]) -> int:
    """`_step` of the first row; 0 without rows."""
    rows, values = _numbers([column for column in columns if column.path == ("_step",)])
    return int(values[0]) if len(rows) else 0


def columns_of(rows: Sequence[Mapping[str, object]]) -> list[Column]:
    """The columns of rows from a server."""
    columns = RowColumns()
    columns.add(rows)
    return [Column((part.key,), part.rows, part.values) for part in columns.series()[0]]


def with_objects(columns: Iterable[Column]) -> Iterator[Column]:
    """The columns with a column of objects in place of those of the values in objects."""
    objects: dict[str, dict[int, dict[str, object]]] = {}
    for path, rows, values in columns:
        if len(path) == 1:
            yield Column(path, rows, values)
            continue
        members = objects.setdefault(path[0], {})
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            _put(members.setdefault(row, {}), path[1:], value)
    for name, members in objects.items():
        in_order = sorted(members)
        values = as_array([members[row] for row in in_order], object)
        yield Column((name,), np.array(in_order, np.int64), values)


def _put(target: dict[str, object], path: Sequence[str], value: object) -> None:
    """Add a value to nested objects. Raises ValueError if an outer one is another value."""
    *outer, last = path
    for name in outer:
        inner = target.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{name!r} is both an object and another value")
        target = inner
    target[last] = value


def _numbers(parts: Sequence[Column]) -> tuple[Int64, Float64]:
    """The numbers of a key as rows and float64 values."""
    found = [part for part in parts if part.values.dtype != object]
    rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in found)])
    values = np.concatenate([np.empty(0), *(part.values.astype(np.float64) for part in found)])
    order = np.argsort(rows, kind="stable")
    return rows[order], values[order]


def _has_all(columns: Columns, key: str, count: int) -> bool:
    """Whether every row has a number for a key."""
    return key in columns and len(_numbers(columns[key])[0]) == count


def _steps(columns: Columns, key: str, count: int) -> Int64:
    """The integers of a key, of any size. Raises ValueError if one is missing."""
    parts = columns.get(key, ())
    if len(parts) == 1 and parts[0].values.dtype == np.int64 and len(parts[0].rows) == count:
        return np.asarray(parts[0].values, np.int64)
    return _own(columns, key, count).astype(np.int64)


def _own(columns: Columns, key: str, count: int) -> Float64:
    rows, values = _numbers(columns.get(key, ()))
    if len(rows) != count:
        raise ValueError(f"{count - len(rows)} of {count} rows have no {key}")
    return values
