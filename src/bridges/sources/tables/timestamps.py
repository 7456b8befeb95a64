"""The times in the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridges.sources.tables.formats import MICROSECONDS, Elapsed, Timestamp
from bridges.sources.times.iso import microseconds
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import NO_TIME, Float64, Int64, Series
from bridges.stream.pace import MAX_TIME


def times_of(
    series: Sequence[Series], column: Timestamp | None, count: int
) -> tuple[Int64 | None, list[Finding]]:
    """The time of each row in microseconds since 1970 UTC (int64, n; NO_TIME: none).

    None without a column of times. Other values than times between 1970 and 2099 are findings.
    """
    if column is None:
        return None, []
    time, odd = np.full(count, NO_TIME), 0
    for part in series:
        if part.key != column.column:
            continue
        found = _microseconds(part, column)
        is_time = (found > 0) & (found < MAX_TIME * 1_000_000)
        odd += int((~is_time).sum())
        time[part.rows[is_time]] = found[is_time]
    if not odd:
        return time, []
    message = (
        f"not a time ({column.unit} between 1970 and 2099): these rows get a time from the others"
    )
    where = f"column {column.column!r}"
    return time, [Finding("times-out-of-range", Severity.WARNING, where, message, odd)]


def _microseconds(part: Series, column: Timestamp) -> Int64:
    """The times of some values; 0 for other values."""
    if column.unit == "iso":
        return np.array([microseconds(value) for value in part.values.tolist()], np.int64)
    scale = MICROSECONDS[column.unit]
    if part.values.dtype == np.int64:
        largest = MAX_TIME * 1_000_000 // scale
        return np.where(np.abs(part.values) <= largest, part.values, 0) * scale
    if part.values.dtype == np.float64:
        times = part.values * scale
        is_time = np.isfinite(times) & (np.abs(times) < 2.0**62)
        return np.rint(np.where(is_time, times, 0.0)).astype(np.int64)
    return np.zeros(len(part.rows), np.int64)


def elapsed_of(series: Sequence[Series], column: Elapsed | None, count: int) -> Float64 | None:
    """The time of each row since the start in microseconds (float64, n; NaN: none).

    None without such a column.
    """
    if column is None or column.file:
        return None
    elapsed = np.full(count, np.nan)
    for part in series:
        if part.key == column.columns[0] and part.values.dtype in (np.int64, np.float64):
            values = part.values.astype(np.float64) * MICROSECONDS[column.unit]
            elapsed[part.rows] = np.where(np.isfinite(values) & (values >= 0), values, np.nan)
    return elapsed
