"""CSV files: tables to files and back. RFC 4180, UTF-8, lines end with a line feed.

Numbers are written so that they are read back exactly: the shortest text of a float, `NaN`, `inf`.
Times are ISO 8601 in UTC, and null is an empty cell.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from operator import not_
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.atomic_files import write_file
from bridges.exporters.tables.table import TEXT, Column, Numbers, Table, Texts

SUFFIX = ".csv"
LINES_AT_ONCE = 1 << 14
CHARS_AT_ONCE = 1 << 20
MAX_CELL_CHARS = 1 << 30
_LIMIT = threading.Lock()
_SPECIAL = re.compile('[",\r\n]')


def write(path: str, table: Table) -> None:
    """Write and sync a file. Raises OSError."""
    write_file(path, _pieces(table))


def read(path: str, types: Mapping[str, str]) -> Table:
    """Read a file with columns of these types. Raises OSError, ValueError for other files."""
    columns = {name: _Reading(kind) for name, kind in types.items()}
    with open(path, newline="", encoding="utf-8") as file, _long_cells():
        try:
            names = next(csv.reader(file), [])
            places = {name: names.index(name) for name in types}
            for cells in _columns(file, len(names)):
                for name, place in places.items():
                    columns[name].add(cells[place])
        except (csv.Error, IndexError) as error:
            raise ValueError(error) from None
    return {name: column.column() for name, column in columns.items()}


@contextmanager
def _long_cells() -> Iterator[None]:
    """Allow the module csv, which has one limit for the process, to read long cells."""
    with _LIMIT:
        before = csv.field_size_limit(MAX_CELL_CHARS)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _columns(file: TextIO, width: int) -> Iterator[Sequence[Sequence[str]]]:
    """The cells of each column, of some lines at once. Raises ValueError for other widths."""
    while lines := file.readlines(CHARS_AT_ONCE):
        text = "".join(lines)
        cells = text.replace("\n", ",\n,").split(",")  # after each row, a cell with its line end
        ends = cells[width :: width + 1]
        if '"' in text or "\r" in text or ends != ["\n"] * len(lines) or cells.pop():
            yield from _columns_by_csv(chain(lines, file))
            return
        yield [cells[place :: width + 1] for place in range(width)]


def _columns_by_csv(lines: Iterable[str]) -> Iterator[Sequence[Sequence[str]]]:
    rows = csv.reader(lines)
    while some := [*islice(rows, LINES_AT_ONCE)]:
        yield [*zip(*some, strict=True)]


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
    """The texts of numbers; those of equal ones in succession are made once."""
    values = column.values
    bits = values.view(f"i{values.itemsize}")
    is_new = np.concatenate([[True], bits[1:] != bits[:-1]])[: len(bits)]
    texts = _texts(values[is_new])
    if len(texts) == len(values):
        return texts
    return [*map(texts.__getitem__, (np.cumsum(is_new) - 1).tolist())]


def _texts(values: NDArray[Any]) -> list[str]:
    kind = values.dtype.kind
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
            for cell in dict.fromkeys(cells):
                self._names.setdefault(cell, len(self._names))
            self._values.append(np.array([*map(self._names.__getitem__, cells)], np.int64))
            return
        missing = np.zeros(len(cells), bool)
        if "" in cells:
            missing = np.array([*map(not_, cells)])
            cells = [cell or "0" for cell in cells]
        self._values.append(_parsed(cells, self._kind))
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
