"""Converts log rows (dicts) to columns and keeps the type of every value.

Rows with equal keys are processed together, and values are checked by the set of their types, which
costs a few dozen nanoseconds per value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter

import numpy as np

from bridges.stream.finding import Finding, Severity, name_rows
from bridges.stream.model import Int64, MetricStream, Series, Values

FEW_VALUES = 64  # of a column
Piece = tuple[Int64, list[object]]


def series_from_rows(
    rows: Sequence[Mapping[str, object]],
) -> tuple[tuple[Series, ...], list[Finding]]:
    """Typed series of all keys except `step`, in the order of their first occurrence."""
    columns = RowColumns()
    columns.add(rows, without=("step",))
    return columns.series()


class RowColumns:
    """The columns of rows that are added in batches; the rows themselves are not kept."""

    def __init__(self) -> None:
        self.rows = 0
        self._parts: dict[str, dict[str, list[tuple[Int64, Values]]]] = {}  # by key and dtype.kind
        self._rounded: dict[str, list[int]] = {}  # rows of integers beyond int64

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._parts)

    def copy(self) -> RowColumns:
        """An independent copy, to which other rows can be added."""
        other = RowColumns()
        other.rows = self.rows
        for key, parts in self._parts.items():
            other._parts[key] = {kind: [*members] for kind, members in parts.items()}
        other._rounded = {key: [*rows] for key, rows in self._rounded.items()}
        return other

    def kinds(self, key: str) -> set[str]:
        """The dtype kinds (`f`, `i`, `b`, `O`) of the values of a key."""
        return {*self._parts.get(key, ())}

    def is_nested(self, without: tuple[str, ...]) -> bool:
        """Whether every row has keys other than `without`, all of them with lists or dicts."""
        covered = np.zeros(self.rows, bool)
        for key, parts in self._parts.items():
            if key not in without:
                if {*parts} != {"O"}:
                    return False
                for positions, values in parts["O"]:
                    if not {*map(type, values)} <= {dict, list}:
                        return False
                    covered[positions] = True
        return bool(covered.all())

    def add(self, rows: Sequence[Mapping[str, object]], without: tuple[str, ...] = ()) -> None:
        """Append rows, except the keys `without`."""
        for key, (positions, values) in values_by_key(rows).items():
            if key not in without:
                self.append(key, positions + self.rows if self.rows else positions, values)
        self.rows += len(rows)

    def append(self, key: str, positions: Int64, values: list[object]) -> None:
        """Append values of a key, in rows after its other rows; `rows` stays as it is."""
        split, rounded = typed_parts(positions, values)
        for part in split:
            self.append_array(key, *part)
        if rounded:
            self._rounded.setdefault(key, []).extend(rounded)

    def append_array(self, key: str, positions: Int64, values: Values) -> None:
        """Append values of one type, as `append` does."""
        parts = self._parts.setdefault(key, {})
        parts.setdefault(values.dtype.kind, []).append((positions, values))

    def series(self) -> tuple[tuple[Series, ...], list[Finding]]:
        """Typed series of all keys in the order of their first occurrence, and findings.

        Call it once: the batches of a key are dropped as soon as they are joined.
        """
        series: list[Series] = []
        findings: list[Finding] = []
        joined: dict[tuple[int, ...], tuple[Int64, object]] = {}  # columns can share their rows
        for key in [*self._parts]:
            if key in self._rounded:
                findings.append(_int64_overflow(key, self._rounded[key]))
            for parts in self._parts.pop(key).values():
                positions, values = zip(*parts, strict=True)
                parts.clear()
                ids = tuple(map(id, positions))
                if ids not in joined:
                    joined[ids] = _joined(positions), positions  # keeps the ids of its parts
                series.append(Series(key, joined[ids][0], _joined(values)))
        return tuple(series), findings


def _joined(arrays: Sequence[Values]) -> Values:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def join_parts(parts: list[Values]) -> Values:
    """Arrays as one. The list is emptied, so that columns joined in turn need little memory."""
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
    parts.clear()
    return whole


def appended(stream: MetricStream, other: MetricStream) -> MetricStream:
    """The rows of one stream followed by the rows of another, without times."""
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


def values_by_key(rows: Sequence[Mapping[str, object]]) -> dict[str, Piece]:
    """The positions (int64) and values of each key, in the order of the rows."""
    uniform = _uniform_columns(rows)
    if uniform is not None:
        every = np.arange(len(rows), dtype=np.int64)
        return {key: (every, values) for key, values in uniform.items()}
    by_key: dict[str, list[Piece]] = {}
    for keys, positions in _rows_by_keys(rows).items():
        members = rows if len(positions) == len(rows) else [rows[i] for i in positions.tolist()]
        for key in keys:
            piece = (positions, list(map(itemgetter(key), members)))
            by_key.setdefault(key, []).append(piece)
    return {key: _in_row_order(pieces) for key, pieces in by_key.items()}


def _uniform_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]] | None:
    """The values of each key if all rows have the same keys, as in a log without evaluation."""
    if len(set(map(len, rows))) != 1:
        return None
    try:
        return {key: list(map(itemgetter(key), rows)) for key in rows[0]}
    except KeyError:
        return None


def column_of(rows: Sequence[Mapping[str, object]], key: str) -> list[object]:
    """The value of a key in every row; None if absent."""
    try:
        return list(map(itemgetter(key), rows))
    except KeyError:
        return [row.get(key) for row in rows]


def _rows_by_keys(rows: Sequence[Mapping[str, object]]) -> dict[tuple[str, ...], Int64]:
    """The positions of the rows with each tuple of keys."""
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


def typed_parts(rows: Int64, values: list[object]) -> tuple[list[tuple[Int64, Values]], list[int]]:
    """Rows and values of each type, and the rows of integers beyond int64, which become floats."""
    typed = _typed(values)
    return ([(rows, typed)], []) if typed is not None else _split_by_type(rows, values)


def _typed(values: list[object]) -> Values | None:
    """The values as float64, bool or int64 if they have one type and fit; else None."""
    types = set(map(type, values))
    if types == {float}:
        return np.fromiter(values, np.float64, len(values))
    if types == {bool}:
        return np.array(values, np.bool_)
    if types == {int}:
        with suppress(OverflowError):
            return np.array(values, np.int64)
    return None


def _split_by_type(
    rows: Int64, values: list[object]
) -> tuple[list[tuple[Int64, Values]], list[int]]:
    """See `typed_parts`, for values of several types."""
    if {*map(type, values)} == {int, float}:
        with suppress(OverflowError):
            return _ints_and_floats(rows, values), []
    parts: dict[type, tuple[list[int], list[object]]] = {}
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
    split = [
        (np.array(positions, np.int64), as_array(members, dtype))
        for dtype, (positions, members) in parts.items()
    ]
    return split, rounded


def _ints_and_floats(rows: Int64, values: list[object]) -> list[tuple[Int64, Values]]:
    """The parts of integers and floats, in the order of their first value. Raises OverflowError."""
    is_float = np.fromiter((type(value) is float for value in values), bool, len(values))
    floats = np.array([value for value in values if type(value) is float])
    parts = [
        (rows[is_float], floats),
        (rows[~is_float], np.array([value for value in values if type(value) is int], np.int64)),
    ]
    return parts if is_float[0] else parts[::-1]


def as_array(values: Sequence[object], dtype: type) -> Values:
    """A one-dimensional array of a type, with lists and dicts as single objects."""
    if dtype is not object:
        return np.array(values, np.dtype(dtype))
    array = np.empty(len(values), object)
    for position, value in enumerate(values):  # a slice would unpack lists of equal length
        array[position] = value
    return array


def _nearest_float(value: int) -> float | str:
    """The nearest float64, or the digits as text if it is not finite."""
    try:
        return float(value)
    except OverflowError:
        return str(value)


def _int64_overflow(key: str, rows: list[int]) -> Finding:
    return Finding(
        "integer-beyond-int64",
        Severity.WARNING,
        f"{name_rows(rows)}, key {key!r}",
        "integers beyond 2^63-1 are kept as the nearest float64, as a live callback sends them",
        len(rows),
    )


def are_plain(columns: Iterable[Values]) -> bool:
    """Whether no number is infinite, NaN or zero. Short columns are checked together."""
    short: list[Values] = []
    for column in columns:
        if len(column) <= FEW_VALUES:
            short.append(column)
        elif not _is_plain(column):
            return False
    return not short or _is_plain(np.concatenate(short))


def _is_plain(values: Values) -> bool:
    return bool(np.isfinite(values).all() and values.all())
