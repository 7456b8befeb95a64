"""A long history, read some hundred rows at a time: a state, a list of rows, or JSON lines.

Rows as Python objects take ten times the memory of their text, and most of the time goes into
waiting for that memory. So the list of rows is cut between rows, and each piece is parsed, turned
into columns and dropped. The parser of whole documents reads what is not regular, and names the
place of an error.

A cut needs no knowledge of the nesting. JSON is read from left to right: if the text around the
list is valid with one row in the place of all, and each piece is a list of rows by itself, then the
document is valid and holds exactly these rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.json_text import Repeated
from bridges.sources.text_density import SMALL
from bridges.sources.trainer.log_rows import LogRows

LONG = SMALL  # bytes of a text from which it is read so
PIECE = 1 << 17  # bytes of one piece: its objects stay in the processor's cache
_TRIES = 8  # places at which the list may end in its last piece
_HISTORY = re.compile(rb'"log_history"\s*:\s*\[')
_LIST = re.compile(rb"\s*\[(?=\s*\{)")
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,(?=[ \t\r\n]*\{)")
_END = re.compile(rb"\}[ \t\r\n]*(?=\])")
_SIGN = re.compile(rb'["{}\[\]]')
_QUOTE = re.compile(rb'(\\*)"')
_COMMA = re.compile(rb"[ \t\r\n]*,")
_STAND_IN = "the rows of this history"


class _IrregularError(Exception):
    """The text needs the parser of whole documents."""


@dataclass(frozen=True)
class History:
    """What a text holds: the document around its rows (None for bare rows), the rows, and how often
    each key stands again in an object.
    """

    header: dict[str, Any] | None
    rows: LogRows
    repeated: Repeated


def read_long(location: str, data: bytes) -> History | None:
    """The history in a text, or None where the parser of whole documents has to read it.

    Raises SourceError.
    """
    rows, repeated = LogRows(location), Repeated()
    if json_text.is_lines(data):
        for _, values, found in json_text.line_parts(location, data, PIECE):
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


def _pieces(location: str, data: bytes, start: int) -> Iterator[tuple[list[Any], int, Repeated]]:
    """The rows of each piece of the list that begins at `start`, where it ends, and its repeated
    keys.
    """
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
        if not rows:  # behind a comma
            raise _IrregularError
        count += len(rows)
        yield rows, stop, repeated
        del rows  # the next piece takes its memory, which is still in the cache
        comma = _COMMA.match(data, stop)
        if comma is None:
            return
        start = comma.end()


def _regular_piece(data: bytes, start: int) -> tuple[list[Any] | None, int]:
    """The rows of a piece that ends where the text looks as between two rows, or at the end of the
    list; and where it ends. None where it does not.
    """
    border = _BETWEEN.search(data, start + PIECE, start + 3 * PIECE)
    if border:
        return _rows(data, start, border.start() + 1), border.start() + 1
    if len(data) - start <= 3 * PIECE:
        for _, end in zip(range(_TRIES), _END.finditer(data, start), strict=False):
            rows = _rows(data, start, end.start() + 1)
            if rows is not None:
                return rows, end.start() + 1
    return None, start


def _row_end(data: bytes, start: int) -> int:
    """Where a row ends: the first behind a piece's length, or the last of the list."""
    depth, at, end = 0, start, start
    while sign := _SIGN.search(data, at):
        at = sign.end()
        if sign[0] == b'"':
            at = _text_end(data, at)
        elif sign[0] in b"{[":
            depth += 1
        elif depth == 0:
            return end
        else:
            depth -= 1
            if depth == 0:
                end = at
                if end - start >= PIECE:
                    return end
    raise _IrregularError


def _text_end(data: bytes, at: int) -> int:
    """Where a text ends in which `at` lies."""
    while quote := _QUOTE.search(data, at):
        at = quote.end()
        if len(quote[1]) % 2 == 0:
            return at
    raise _IrregularError


def _rows(data: bytes, start: int, stop: int) -> list[Any] | None:
    """The rows in a part of a text between their list's brackets, or None where it is not such."""
    text = b"".join((b"[[", memoryview(data)[start:stop], b"]]"))  # as deep as in the document
    try:
        lists = from_json(text, cache_strings="keys")
    except ValueError:
        return None
    return lists[0] if len(lists) == 1 else None  # else another list began in the text


def _slow_rows(location: str, part: bytes) -> tuple[list[Any], Repeated]:
    """The rows in a text between their list's brackets, and its repeated keys."""
    try:
        lists, repeated = json_text.parse(location, b"[[%s]]" % part)
    except SourceError:
        raise _IrregularError from None
    if len(lists) != 1 or not isinstance(lists[0], list):
        raise _IrregularError
    return lists[0], repeated


def _around(
    location: str, data: bytes, start: int, end: int
) -> tuple[dict[str, Any] | None, Repeated]:
    """The document around the list of rows (None for a list alone), and its repeated keys.

    Raises _IrregularError where the list belongs to another object, or the text is not JSON.
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
