"""Reads back targets whose rows are dictionaries: from rows to points by tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bridges.exporters.base import Points, Recorded
from bridges.stream.columns import RowColumns
from bridges.stream.model import Float64, Int64, Series, Values


def recorded_rows(
    rows: Sequence[Mapping[str, object]],
    step: Int64,
    time: Float64,
    special: Mapping[str, float] | None = None,
) -> Recorded:
    """The content of n rows with steps (n) and times (n, seconds since 1970 UTC).

    The values keep their types: points of one tag are int64, bool or float64, the type of all of
    them. `special` are texts that stand for numbers, such as NaN.
    """
    columns = RowColumns()
    columns.add(rows)
    parts: dict[str, list[tuple[Int64, Values]]] = {}
    others: list[tuple[str, int, object]] = []
    for series in columns.series()[0]:
        numbers, rest = _split(series, special or {})
        if len(numbers.rows):
            parts.setdefault(series.key, []).append((numbers.rows, numbers.values))
        values = zip(step[rest.rows].tolist(), rest.values.tolist(), strict=True)
        others += [(series.key, at, value) for at, value in values]
    points = {}
    for tag, found in parts.items():
        at, joined = _joined(found)
        points[tag] = Points(step[at], joined, time[at])
    return Recorded(points, tuple(others))


def _split(series: Series, special: Mapping[str, float]) -> tuple[Series, Series]:
    """The numbers and the other values of a series."""
    nothing = series.only(slice(0, 0))
    if series.is_number:
        return series, nothing
    values = series.values.tolist()
    known = np.array([isinstance(value, str) and value in special for value in values], bool)
    if not known.any():
        return nothing, series
    found = np.array([special[value] for value in series.values[known].tolist()])
    return Series(series.key, series.rows[known], found), series.only(~known)


def _joined(parts: Sequence[tuple[Int64, Values]]) -> tuple[Int64, Values]:
    """The parts in the order of the rows."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([rows for rows, _ in parts])
    order = np.argsort(rows, kind="stable")
    return rows[order], np.concatenate([values for _, values in parts])[order]
