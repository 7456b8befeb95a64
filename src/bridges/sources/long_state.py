"""A long `trainer_state.json`, read some hundred rows at a time.

Rows as Python objects take ten times the memory of their text, and most of the time goes into
waiting for that memory. So the list of rows is cut between rows, and each piece is parsed, turned
into columns and dropped. Only what is regular is read so; the parser of whole documents reads the
rest again and names the place of an error.

A cut needs no knowledge of the nesting. JSON is read from left to right: if the text around the
list is valid with one row in the place of all, and each piece is a list of rows by itself, then the
document is valid and holds exactly these rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.stream.columns import RowColumns
from bridges.stream.finding import Finding
from bridges.stream.model import Int64, Series

LONG = 1 << 20  # bytes of a text from which it is read so
PIECE = 1 << 17  # bytes of one piece: its objects stay in the processor's cache
_TRIES = 8  # places at which the list may end in its last piece
_HISTORY = re.compile(rb'"log_history"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,(?=[ \t\r\n]*\{)")
_END = re.compile(rb"\}[ \t\r\n]*(?=\])")
_STAND_IN = "the rows of this history"


class _IrregularError(Exception):
    """The text needs the parser of whole documents."""


@dataclass(frozen=True)
class LongState:
    """A state: the document around its rows, and the columns of these.

    `step` (int64, n rows) is what the rows hold where they are `known` (bool, n) to hold it.
    `repeated` are the findings of repeated keys, `findings` those of the columns.
    """

    header: dict[str, Any]
    step: Int64
    known: NDArray[np.bool_]
    series: tuple[Series, ...]
    repeated: list[Finding]
    findings: list[Finding]


def read_long(location: str, data: bytes) -> LongState | None:
    """The state in a text, or None where the parser of whole documents has to read it."""
    history = _HISTORY.search(data)
    if history is None:
        return None
    columns, end = RowColumns(), history.end()
    try:
        for rows, stop in _pieces(data, history.end()):
            columns.add(rows)
            end = stop
        header, repeated = _around(location, data[: history.end()], data[end:])
        series, findings = columns.series()
        step, known = _steps(series, columns.rows)
    except (_IrregularError, SourceError):
        return None
    others = tuple(part for part in series if part.key != "step")
    return LongState(header, step, known, others, repeated, findings)


def _steps(series: Sequence[Series], rows: int) -> tuple[Int64, NDArray[np.bool_]]:
    """The steps, and which rows have one. Raises _IrregularError where one is not an int64, or an
    epoch is not a number.
    """
    kinds = {(part.key, part.values.dtype.kind) for part in series if part.key in ("step", "epoch")}
    if not kinds <= {("step", "i"), ("epoch", "i"), ("epoch", "f")}:
        raise _IrregularError
    step, known = np.zeros(rows, np.int64), np.zeros(rows, bool)
    for part in series:
        if part.key == "step":
            step[part.rows], known[part.rows] = part.values, True
    return step, known


def _pieces(data: bytes, start: int) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """The rows of each piece of the list that begins at `start`, and where the piece ends."""
    view = memoryview(data)
    while True:
        border = _BETWEEN.search(data, start + PIECE)
        rows = _rows(view[start : border.end() - 1]) if border else None
        if border is None or rows is None:
            yield _last(data[start : border.end() if border else None], start)
            return
        yield rows, border.end() - 1
        start = border.end()


def _last(text: bytes, start: int) -> tuple[list[dict[str, Any]], int]:
    """The rows of the piece in which the list ends, and where that is; `start` is the piece's."""
    for _, end in zip(range(_TRIES), _END.finditer(text), strict=False):
        rows = _rows(text[: end.end()])
        if rows is not None:
            return rows, start + end.end()
    raise _IrregularError


def _rows(part: bytes | memoryview) -> list[dict[str, Any]] | None:
    """The rows in a text between their list's brackets, or None where it is no such text."""
    text = b"".join((b"[[", part, b"]]"))  # as deep as in the document, whose depth is limited
    try:
        lists = from_json(text, cache_strings="keys")
    except ValueError:
        return None
    if len(lists) != 1:  # the list ended in the text, and another began
        return None
    if json_text.may_repeat_a_key(text, lists[0]):
        raise _IrregularError
    rows: list[dict[str, Any]] = lists[0]
    return rows


def _around(location: str, before: bytes, after: bytes) -> tuple[dict[str, Any], list[Finding]]:
    """The document around its list of rows, and the findings in it.

    Raises _IrregularError where the list belongs to another object, SourceError where the
    text is not JSON.
    """
    stand_in = {_STAND_IN: 0}
    text = b'%s{"%s":0}%s' % (before, _STAND_IN.encode(), after)
    value, findings = json_text.parse(location, text)
    if not isinstance(value, dict) or value.get("log_history") != [stand_in]:
        raise _IrregularError
    return {**value, "log_history": []}, findings
