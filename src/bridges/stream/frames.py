"""The rows of a run as a table of pandas, Polars or Arrow: wide or long.

The wide table has a row for each row of the log, in its order, with the columns `step`, `epoch`,
`time` and one for each other key. The long table has a row for each number: `row` (its position in
the log), `step`, `epoch`, `time`, `key` and `value` (float64). Missing values are null. `time` is
UTC, and null if no instant of the run is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import MissingDependencyError
from bridges.stream.clock import clocked
from bridges.stream.model import MetricStream, Run, Series

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Mask = NDArray[np.bool_]
OWN = ("step", "epoch", "time")  # columns of every table


@dataclass(frozen=True)
class Column:
    """A column: values (int64, float64, bool, object or datetime64[us]), and which are null."""

    name: str
    values: NDArray[Any]
    missing: Mask

    @property
    def objects(self) -> list[Any]:
        """The values as Python objects, None for null."""
        values = self.values.tolist()
        if not self.missing.any():
            return list(values)
        return [None if gone else value for value, gone in zip(values, self.missing, strict=True)]


def to_pandas(run: Run, *, long: bool) -> pandas.DataFrame:
    """The table as a pandas DataFrame; integers and booleans with nulls have nullable dtypes."""
    pandas = _library("pandas", "pandas")
    nullable = {"i": "Int64", "b": "boolean"}
    found = {}
    for column in columns(run, long=long):
        kind = column.values.dtype.kind
        if kind == "M":
            values = column.values.copy()
            values[column.missing] = np.datetime64("NaT")
            found[column.name] = pandas.Series(values).dt.tz_localize("UTC")
        elif kind == "f":
            found[column.name] = pandas.Series(np.where(column.missing, np.nan, column.values))
        elif kind in nullable and column.missing.any():
            found[column.name] = pandas.Series(column.objects, dtype=nullable[kind])
        else:
            dtype = object if kind == "O" else column.values.dtype
            found[column.name] = pandas.Series(column.objects, dtype=dtype)
    return pandas.DataFrame(found)


def to_polars(run: Run, *, long: bool) -> polars.DataFrame:
    """The table as a Polars DataFrame; other objects than texts are JSON texts."""
    polars = _library("polars", "polars")
    types = {"i": polars.Int64, "b": polars.Boolean, "f": polars.Float64, "O": polars.String}
    types["M"] = polars.Datetime("us", "UTC")
    series = [
        polars.Series(each.name, _plain(each), dtype=types[each.values.dtype.kind])
        for each in columns(run, long=long)
    ]
    return polars.DataFrame(series)


def to_arrow(run: Run, *, long: bool) -> pyarrow.Table:
    """The table as an Arrow table; other objects than texts are JSON texts."""
    arrow = _library("pyarrow", "arrow")
    types = {"i": arrow.int64(), "b": arrow.bool_(), "f": arrow.float64(), "O": arrow.string()}
    types["M"] = arrow.timestamp("us", "UTC")
    found = {
        each.name: arrow.array(_plain(each), types[each.values.dtype.kind])
        for each in columns(run, long=long)
    }
    return arrow.table(found)


def columns(run: Run, *, long: bool) -> Iterator[Column]:
    """The columns of a table."""
    timed, clock, _ = clocked(run, run.stream)
    assert timed.time is not None
    epoch = timed.epoch
    time = timed.time.view("datetime64[us]")
    own = (timed.step, epoch, time)
    nulls = (np.zeros(len(timed), bool), np.isnan(epoch), np.full(len(timed), clock.is_synthetic))
    if long:
        yield from _long(timed, [Column(*each) for each in zip(OWN, own, nulls, strict=True)])
        return
    yield from (Column(*each) for each in zip(OWN, own, nulls, strict=True))
    for key in timed.keys:
        if key != "epoch":
            yield _wide(f"{key}_" if key in OWN else key, timed, key)


def _long(timed: MetricStream, own: list[Column]) -> Iterator[Column]:
    """The columns of the long table, one value after the other in the order of the rows."""
    parts = [part for part in timed.numbers if part.key != "epoch"]
    rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)])
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    keys = np.repeat(
        np.array([part.key for part in parts], object), [len(part.rows) for part in parts]
    )
    values = np.concatenate([np.empty(0), *(part.values.astype(np.float64) for part in parts)])
    none = np.zeros(len(rows), bool)
    yield Column("row", rows, none)
    for column in own:
        yield Column(column.name, column.values[rows], column.missing[rows])
    yield Column("key", keys[order], none)
    yield Column("value", values[order], none)


def _wide(name: str, timed: MetricStream, key: str) -> Column:
    """The column of a key: of one type, float64 for mixed numbers, else objects."""
    parts = [part for part in timed.series if part.key == key]
    values = np.zeros(len(timed), _dtype(parts))
    missing = np.ones(len(timed), bool)
    for part in parts:
        values[part.rows] = part.values
        missing[part.rows] = False
    return Column(name, values, missing)


def _dtype(parts: list[Series]) -> np.dtype[Any]:
    kinds = {part.values.dtype.kind for part in parts}
    if len(kinds) == 1:
        return parts[0].values.dtype
    return np.dtype(np.float64 if kinds == {"i", "f"} else object)


def _plain(column: Column) -> list[Any]:
    """The values for a library with typed columns: times as integers, objects as texts."""
    if column.values.dtype.kind == "M":
        whole = Column(column.name, column.values.view(np.int64), column.missing)
        return whole.objects
    if column.values.dtype.kind != "O":
        return column.objects
    return [each if each is None else _text(each) for each in column.objects]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _library(module: str, extra: str) -> ModuleType:
    """The module. Raises MissingDependencyError with the line that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingDependencyError(module, extra) from None
