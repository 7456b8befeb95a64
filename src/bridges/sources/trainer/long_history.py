"""Reads a long history (a state, a list of rows, or JSON lines) some hundred rows at a time.

Rows as Python objects take ten times the memory of their text, and allocating it takes most of the
time. So the list of rows is cut between rows, and each piece is parsed, turned into columns and
dropped. Irregular text goes to the full parser, which also reports the position of an error.

A cut does not need to know the nesting. JSON is read from left to right: if the text around the
list is valid with one row in place of all rows, and each piece is a list of rows, then the document
is valid and contains exactly these rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.json_text import Repeated
from bridges.sources.text_density import SMALL_BYTES
from bridges.sources.trainer.log_rows import LogRows

MIN_LONG_BYTES = SMALL_BYTES  # shorter texts are parsed at once
PIECE_BYTES = 1 << 17  # the objects of such a piece fit into the CPU cache
_MAX_ENDS_TRIED = 8  # candidate ends of the list in its last piece
_HISTORY = re.compile(rb'"log_history"\s*:\s*\[')
_LIST = re.compile(rb"\s*\[(?=\s*\{)")
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,(?=[ \t\r\n]*\{)")
_END = re.compile(rb"\}[ \t\r\n]*(?=\])")
_SIGN = re.compile(rb'["{}\[\]]')
_QUOTE = re.compile(rb'(\\*)"')
_COMMA = re.compile(rb"[ \t\r\n]*,")
_STAND_IN = "the rows of this history"


class _IrregularError(Exception):
    """The text needs the full parser."""


@dataclass(frozen=True)
class History:
    """A parsed history: the fields around its rows (None for bare rows), the rows, and the number
    of repetitions of each duplicate key.
    """

    header: dict[str, object] | None
    rows: LogRows
    repeated: Repeated


def read_long(location: str, data: bytes) -> History | None:
    """The history in a text; None if the full parser has to read it. Raises SourceError."""
    rows, repeated = LogRows(location), Repeated()
    if json_text.is_lines(data):
        for _, values, found in json_text.line_parts(location, data, PIECE_BYTES):
            rows.add(values)
            repeated.update(found)
        return History(None, rows, repeated)
    opened = _LIST.match(data) or _HISTORY.search(data)
    if opened is None:
        return None
    start = end = opened.end()
    try:
        for values, stop, found in _pieces(location, data, start):
            rows.add(values)
            repeated.update(found)
            end = stop
            del values
        header, found = _around(location, data, start, end)
    except _IrregularError:
        return None
    repeated.update(found)
    return History(header, rows, repeated)


def _pieces(location: str, data: bytes, start: int) -> Iterator[tuple[list[object], int, Repeated]]:
    """For each piece of the list that begins at `start`: rows, end offset, repeated keys."""
    count, view = 0, memoryview(data)
    while True:
        rows, stop = _regular_piece(data, start)
        repeated = Repeated()
        if rows is None:
            stop = _row_end(data, start)
            json_text.refuse_heavy_row(location, data, start, stop, f"log row {count}")
            rows = _rows(data, start, stop)
        if rows is None or json_text.may_repeat_a_key(view[start:stop], rows):
            rows, repeated = _slow_rows(location, data[start:stop])
        if not rows:  # a trailing comma
            raise _IrregularError
        count += len(rows)
        yield rows, stop, repeated
        del rows  # the next piece reuses this memory, which is still in the cache
        comma = _COMMA.match(data, stop)
        if comma is None:
            return
        start = comma.end()


def _regular_piece(data: bytes, start: int) -> tuple[list[object] | None, int]:
    """The rows and the end offset of a piece that is cut at the next `}, {`, or ends with the list.

    The rows are None if the cut is not between two rows.
    """
    border = _BETWEEN.search(data, start + PIECE_BYTES, start + 3 * PIECE_BYTES)
    if border:
        return _rows(data, start, border.start() + 1), border.start() + 1
    if len(data) - start <= 3 * PIECE_BYTES:
        for _, end in zip(range(_MAX_ENDS_TRIED), _END.finditer(data, start), strict=False):
            rows = _rows(data, start, end.start() + 1)
            if rows is not None:
                return rows, end.start() + 1
    return None, start


def _row_end(data: bytes, start: int) -> int:
    """The end offset of the first row beyond a piece's length, or of the list's last row."""
    depth, at, end = 0, start, start
    while sign := _SIGN.search(data, at):
        at = sign.end()
        if sign[0] == b'"':
            at = _string_end(data, at)
        elif sign[0] in b"{[":
            depth += 1
        elif depth == 0:
            return end
        else:
            depth -= 1
            if depth == 0:
                end = at
                if end - start >= PIECE_BYTES:
                    return end
    raise _IrregularError


def _string_end(data: bytes, at: int) -> int:
    """The end offset of the string around `at`."""
    while quote := _QUOTE.search(data, at):
        at = quote.end()
        if len(quote[1]) % 2 == 0:
            return at
    raise _IrregularError


def _rows(data: bytes, start: int, stop: int) -> list[object] | None:
    """The rows of a slice of the list's text, without its brackets; None if it is not valid."""
    text = b"".join((b"[[", memoryview(data)[start:stop], b"]]"))  # nested as in the document
    try:
        lists = from_json(text, cache_strings="keys")
    except ValueError:
        return None
    return lists[0] if len(lists) == 1 else None  # more: the slice closed the list


def _slow_rows(location: str, part: bytes) -> tuple[list[object], Repeated]:
    """The rows of a slice of the list's text, and its repeated keys."""
    try:
        lists, repeated = json_text.parse(location, b"[[%s]]" % part)
    except SourceError:
        raise _IrregularError from None
    if not isinstance(lists, list) or len(lists) != 1 or not isinstance(lists[0], list):
        raise _IrregularError
    return lists[0], repeated


def _around(
    location: str, data: bytes, start: int, end: int
) -> tuple[dict[str, object] | None, Repeated]:
    """The fields around the list of rows (None for a bare list), and their repeated keys.

    Raises _IrregularError if the list belongs to another object, or the text is not JSON.
    """
    rows = [{_STAND_IN: 0}]
    text = b'%s{"%s":0}%s' % (data[:start], _STAND_IN.encode(), data[end:])
    json_text.refuse_heavy(location, text, place="beside its rows")
    try:
        value, repeated = json_text.parse(location, text)
    except SourceError:
        raise _IrregularError from None
    if value == rows:
        return None, repeated
    if not isinstance(value, dict) or value.get("log_history") != rows:
        raise _IrregularError
    return {**value, "log_history": []}, repeated
