"""Log rows (dicts) become columns, with every value's type kept.

Rows of equal keys are read together and values are checked by the set of their types, so the cost
is a few dozen nanoseconds a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

import numpy as np

from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.model import Int64, MetricStream, Series, Values

Piece = tuple[Int64, list[Any]]


def series_from_rows(rows: Sequence[dict[str, Any]]) -> tuple[tuple[Series, ...], list[Finding]]:
    """Every key but `step` as typed series, in the order in which the keys first appear."""
    columns = RowColumns()
    columns.add(rows, without=("step",))
    return columns.series()


class RowColumns:
    """The columns of rows that come in parts: no row outlives the call that adds it."""

    def __init__(self) -> None:
        self.rows = 0
        self._parts: dict[str, list[tuple[Int64, Values | list[Any]]]] = {}

    def add(self, rows: Sequence[dict[str, Any]], without: tuple[str, ...] = ()) -> None:
        """Append rows, less some of their keys."""
        for key, pieces in _values_by_key(rows).items():
            if key not in without:
                positions, values = _in_row_order(pieces)
                part = positions + self.rows if self.rows else positions, _typed(values)
                self._parts.setdefault(key, []).append(part)
        self.rows += len(rows)

    def series(self) -> tuple[tuple[Series, ...], list[Finding]]:
        """Every key as typed series, in the order in which the keys first appear."""
        series: list[Series] = []
        findings: list[Finding] = []
        for key, parts in self._parts.items():
            positions = _joined([positions for positions, _ in parts])
            arrays = [values for _, values in parts if isinstance(values, np.ndarray)]
            if len(arrays) == len(parts) and len({values.dtype for values in arrays}) == 1:
                series.append(Series(key, positions, _joined(arrays)))
            else:
                values = [value for _, part in parts for value in _listed(part)]
                split, found = _split_by_type(key, positions, values)
                series += split
                findings += found
        return tuple(series), findings


def _joined(arrays: list[Values]) -> Values:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _listed(values: Values | list[Any]) -> list[Any]:
    return values if isinstance(values, list) else list(values.tolist())


def appended(stream: MetricStream, other: MetricStream) -> MetricStream:
    """The rows of a stream without times, followed by those of another one."""
    series = {(part.key, part.values.dtype.kind): part for part in stream.series}
    for part in other.series:
        name, rows, values = (
            (part.key, part.values.dtype.kind),
            part.rows + len(stream),
            part.values,
        )
        if name in series:
            rows = np.concatenate([series[name].rows, rows])
            values = np.concatenate([series[name].values, values])
        series[name] = Series(part.key, rows, values)
    step = np.concatenate([stream.step, other.step])
    return MetricStream(step, np.concatenate([stream.kind, other.kind]), tuple(series.values()))


def _values_by_key(rows: Sequence[dict[str, Any]]) -> dict[str, list[Piece]]:
    whole = _whole_columns(rows)
    if whole is not None:
        every = np.arange(len(rows), dtype=np.int64)
        return {key: [(every, values)] for key, values in whole.items()}
    by_key: dict[str, list[Piece]] = {}
    for keys, positions in _rows_by_keys(rows).items():
        members = rows if len(positions) == len(rows) else [rows[i] for i in positions.tolist()]
        for key in keys:
            piece = (positions, list(map(itemgetter(key), members)))
            by_key.setdefault(key, []).append(piece)
    return by_key


def _whole_columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]] | None:
    """Each key's values where all rows have the same keys, as in a log of training alone."""
    if len(set(map(len, rows))) != 1:
        return None
    try:
        return {key: list(map(itemgetter(key), rows)) for key in rows[0]}
    except KeyError:
        return None


def column_of(rows: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """The value of a key in every row, None where it is absent."""
    try:
        return list(map(itemgetter(key), rows))
    except KeyError:
        return [row.get(key) for row in rows]


def _rows_by_keys(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], Int64]:
    """Row positions of each set of keys (in the order the row holds them)."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for position, keys in enumerate(map(tuple, rows)):
        groups.setdefault(keys, []).append(position)
    return {keys: np.array(positions, np.int64) for keys, positions in groups.items()}


def _in_row_order(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    positions = np.concatenate([positions for positions, _ in pieces])
    values = [value for _, part in pieces for value in part]
    order = np.argsort(positions, kind="stable")
    return positions[order], [values[i] for i in order.tolist()]


def _typed(values: list[Any]) -> Values | list[Any]:
    """The values as float64, bool or int64 where they are of one type and fit, else as given."""
    types = set(map(type, values))
    if types == {float}:
        return np.fromiter(values, np.float64, len(values))
    if types == {bool}:
        return np.array(values, np.bool_)
    if types == {int}:
        with suppress(OverflowError):
            return np.array(values, np.int64)
    return values


def _split_by_type(key: str, rows: Int64, values: list[Any]) -> tuple[list[Series], list[Finding]]:
    """One series for each type that the key holds; integers beyond int64 join the floats."""
    parts: dict[type, tuple[list[int], list[Any]]] = {}
    rounded: list[int] = []
    for row, original in zip(rows.tolist(), values, strict=True):
        value = original
        if type(value) is int and not -(2**63) <= value < 2**63:
            value = _nearest_float(value)
            rounded.append(row)
        dtype = type(value) if type(value) in (float, int, bool) else object
        positions, members = parts.setdefault(dtype, ([], []))
        positions.append(row)
        members.append(value)
    series = [
        Series(key, np.array(positions, np.int64), as_array(members, dtype))
        for dtype, (positions, members) in parts.items()
    ]
    return series, [_beyond_int64(key, rounded)] if rounded else []


def as_array(values: list[Any], dtype: type) -> Values:
    """A one-dimensional array of the type, lists and dicts staying single objects."""
    if dtype is not object:
        return np.array(values, np.dtype(dtype))
    array = np.empty(len(values), object)
    for position, value in enumerate(values):  # a slice would unpack lists of equal length
        array[position] = value
    return array


def _nearest_float(value: int) -> float | str:
    """The nearest float64, or the digits as text where none is finite."""
    try:
        return float(value)
    except OverflowError:
        return str(value)


def _beyond_int64(key: str, rows: list[int]) -> Finding:
    return Finding(
        "integer-beyond-int64",
        Severity.WARNING,
        f"{name_rows(rows)}, key {key!r}",
        "integers beyond 2^63-1 are kept as the nearest float64, as a live callback sends them",
        len(rows),
    )
