"""Converts JSON lines to typed columns, a block of lines at a time."""

from __future__ import annotations

import json

import numpy as np
from pydantic_core import from_json

from bridges.sources.tables.cells import BLOCK_BYTES
from bridges.sources.tables.damage import Damage
from bridges.sources.tables.text import NEWLINE, TableText
from bridges.stream.columns import RowColumns
from bridges.stream.model import Int64

Row = dict[str, object]


class JsonRows:
    """The rows of JSON lines; a key with null is not logged."""

    def __init__(self, text: TableText, damage: Damage) -> None:
        """Raises SourceError for a line without an object."""
        self.columns = RowColumns()
        self._lines: list[int] = []
        self._damage = damage
        start, line, data = 0, 1, text.data
        while start < len(data):
            end = data.find(NEWLINE, min(start + BLOCK_BYTES, len(data)) - 1) + 1 or len(data)
            line = self._add(data[start:end], line)
            start = end

    @property
    def lines(self) -> Int64:
        """The line number of each row (int64, n)."""
        return np.array(self._lines, np.int64)

    def _add(self, block: bytes, line: int) -> int:
        """Add the lines of a block. Returns the number of the next line."""
        texts = block.split(NEWLINE)[:-1]
        filled = [text for text in texts if text.strip()]
        rows = _parsed(filled)
        if rows is None or len(filled) != len(texts):
            rows = self._one_by_one(texts, line)
        else:
            self._lines += range(line, line + len(texts))
        if b"null" in block:
            rows = [{k: v for k, v in row.items() if v is not None} for row in rows]
        self.columns.add(rows)
        return line + len(texts)

    def _one_by_one(self, texts: list[bytes], line: int) -> list[Row]:
        """The objects of mixed lines."""
        rows: list[Row] = []
        for number, text in enumerate(texts, line):
            if not text.strip():
                continue
            found = _parsed([text])
            row = row_of(text) if found is None else found[0]
            if row is None:
                self._refuse(number, text)
            else:
                rows.append(row)
                self._lines.append(number)
        return rows

    def _refuse(self, line: int, text: bytes) -> None:
        damage = self._damage
        if line == damage.cut_line:
            damage.cut.append(line)
            return
        shown = text[:60].decode(errors="replace").strip()
        damage.refuse(line, repr(shown), "a JSON object with the values of one row")


def row_of(line: bytes) -> Row | None:
    """The object in a line. Texts may be cut within a character, such as `"\\ud83d"`, as Python
    writes them; the fast parser refuses those.
    """
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _parsed(lines: list[bytes]) -> list[Row] | None:
    """The objects in some lines; None if one of them is not an object."""
    try:
        rows = from_json(b"[" + b",".join(lines) + b"]", cache_strings="keys")
    except ValueError:
        return None
    is_rows = len(rows) == len(lines) and {*map(type, rows)} <= {dict}
    return rows if is_rows else None
