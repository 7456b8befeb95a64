"""CSV files: tables to files and back. RFC 4180, UTF-8, lines end with a line feed.

Numbers are written so that they are read back exactly: the shortest text of a float, `NaN`, `inf`.
Times are ISO 8601 in UTC, and null is an empty cell.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.atomic_files import write_file
from bridges.exporters.tables.table import TEXT, Column, Numbers, Table, Texts

SUFFIX = ".csv"
LINES_AT_ONCE = 1 << 14
MAX_CELL_CHARS = 1 << 30
_SPECIAL = re.compile('[",\r\n]')


def write(path: str, table: Table) -> None:
    """Write and sync a file. Raises OSError."""
    write_file(path, _pieces(table))


def read(path: str, types: Mapping[str, str]) -> Table:
    """Read a file with columns of these types. Raises OSError, ValueError for other files."""
    csv.field_size_limit(MAX_CELL_CHARS)
    columns = {name: _Reading(kind) for name, kind in types.items()}
    with open(path, newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        try:
            names = next(lines, [])
            places = {name: names.index(name) for name in types}
            while some := [*islice(lines, LINES_AT_ONCE)]:
                cells = [*zip(*some, strict=True)]
                for name, place in places.items():
                    columns[name].add(cells[place])
        except (csv.Error, IndexError) as error:
            raise ValueError(error) from None
    return {name: column.column() for name, column in columns.items()}


def _pieces(table: Table) -> Iterator[bytes]:
    """The lines, some at once."""
    yield (",".join(map(_quoted, table)) + "\n").encode()
    columns = [*map(_with_quotes, table.values())]
    for start in range(0, len(columns[0]), LINES_AT_ONCE):
        chosen = slice(start, start + LINES_AT_ONCE)
        some = (_cells(column.only(chosen)) for column in columns)
        yield ("\n".join(map(",".join, zip(*some, strict=True))) + "\n").encode()


def _with_quotes(column: Column) -> Column:
    if isinstance(column, Numbers):
        return column
    return Texts(column.codes, [*map(_quoted, column.names)])


def _cells(column: Column) -> list[str]:
    if isinstance(column, Texts):
        return column.tolist()
    cells = _of_numbers(column)
    if column.missing is not None:
        for row in np.flatnonzero(column.missing).tolist():
            cells[row] = ""
    return cells


def _of_numbers(column: Numbers) -> list[str]:
    values, kind = column.values, column.values.dtype.kind
    if kind == "M":
        return [f"{text}Z" for text in np.datetime_as_string(values, unit="us").tolist()]
    if kind == "b":
        return ["true" if value else "false" for value in values.tolist()]
    cells = [*map(repr, values.tolist())]
    if kind == "f":
        for row in np.flatnonzero(np.isnan(values)).tolist():
            cells[row] = "NaN"
    return cells


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


class _Reading:
    """A column in reading: the values of some lines after the other."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._names: dict[str, int] = {}
        self._values: list[NDArray[Any]] = []
        self._missing: list[NDArray[np.bool_]] = []

    def add(self, cells: Sequence[str]) -> None:
        """Add cells. Raises ValueError for one of another type."""
        if self._kind == TEXT:
            codes = [self._names.setdefault(cell, len(self._names)) for cell in cells]
            self._values.append(np.array(codes, np.int64))
            return
        missing = np.array([not cell for cell in cells], bool)
        filled = [cell or "0" for cell in cells] if missing.any() else cells
        self._values.append(_parsed(filled, self._kind))
        self._missing.append(missing)

    def column(self) -> Column:
        """The whole column."""
        kind = "int64" if self._kind == TEXT else self._kind
        values = np.concatenate([np.empty(0, kind), *self._values])
        if self._kind == TEXT:
            return Texts(values, [*self._names])
        missing = np.concatenate([np.empty(0, bool), *self._missing])
        return Numbers(values, missing if missing.any() else None)


def _parsed(cells: Sequence[str], kind: str) -> NDArray[Any]:
    if kind == "bool":
        return np.array([cell == "true" for cell in cells], bool)
    if kind == "int64":
        return np.array([*map(int, cells)], np.int64)
    if kind == "float64":
        return np.array([*map(float, cells)], np.float64)
    return np.array([cell.removesuffix("Z") for cell in cells], "datetime64[us]")
