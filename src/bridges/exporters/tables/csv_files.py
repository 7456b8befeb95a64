"""CSV files: tables to files and back. RFC 4180, UTF-8, lines end with a line feed.

Numbers are written so that they are read back exactly: the shortest text of a float, `NaN`, `inf`.
Times are ISO 8601 in UTC, and null is an empty cell.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping

import numpy as np

from bridges.exporters.atomic_files import write_file
from bridges.exporters.tables.table import TEXT, Column, Numbers, Table, Texts

SUFFIX = ".csv"
LINES_AT_ONCE = 1 << 16
MAX_CELL_CHARS = 1 << 30
_SPECIAL = re.compile('[",\r\n]')


def write(path: str, table: Table) -> None:
    """Write and sync a file. Raises OSError."""
    write_file(path, _pieces(table))


def read(path: str, types: Mapping[str, str]) -> Table:
    """Read a file with columns of these types. Raises OSError, ValueError for other files."""
    csv.field_size_limit(MAX_CELL_CHARS)
    with open(path, newline="", encoding="utf-8") as file:
        try:
            names, *rows = csv.reader(file)
        except csv.Error as error:
            raise ValueError(error) from None
    cells = [*zip(*rows, strict=True)] if rows else [()] * len(names)
    columns = dict(zip(names, cells, strict=True))
    return {name: _column(columns[name], kind) for name, kind in types.items()}


def _pieces(table: Table) -> Iterator[bytes]:
    """The lines, some at once."""
    yield (",".join(map(_quoted, table)) + "\n").encode()
    columns = [_cells(column) for column in table.values()]
    for start in range(0, len(columns[0]), LINES_AT_ONCE):
        some = (column[start : start + LINES_AT_ONCE] for column in columns)
        yield ("\n".join(map(",".join, zip(*some, strict=True))) + "\n").encode()


def _cells(column: Column) -> list[str]:
    if isinstance(column, Texts):
        quoted = [*map(_quoted, column.names)]
        return [quoted[code] for code in column.codes.tolist()]
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


def _column(cells: tuple[str, ...], kind: str) -> Column:
    """The column of cells. Raises ValueError for a cell of another type."""
    if kind == TEXT:
        return Texts.of(cells)
    missing = np.array([not cell for cell in cells], bool)
    values = _parsed([cell or "0" for cell in cells] if missing.any() else [*cells], kind)
    return Numbers(values, missing if missing.any() else None)


def _parsed(cells: list[str], kind: str) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    if kind == "bool":
        return np.array([cell == "true" for cell in cells], bool)
    if kind == "int64":
        return np.array([*map(int, cells)], np.int64)
    if kind == "float64":
        return np.array([*map(float, cells)], np.float64)
    return np.array([cell.removesuffix("Z") for cell in cells], "datetime64[us]")
