"""Converts the cells of separated text to typed columns, a block of lines at a time.

A block of numbers and blank cells is rewritten as one JSON list and parsed at once, which gives the
nearest float64 of each cell and keeps integers. Other blocks are parsed row by row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import compress, repeat
from operator import is_not
from types import NoneType

import numpy as np
from pydantic_core import from_json

from bridges.stream.columns import RowColumns
from bridges.stream.model import Int64

BLOCK_BYTES = 1 << 18  # its values stay in the processor's cache
MAX_DIGITS = 4300  # of an integer that Python converts
_NUMBER_BYTES = b"0123456789.,-+eE \n"
_WORD_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/"
_WORD = re.compile(rb"(?<![^,\n])[ ]*([+-]?[A-Za-z/]+)[ ]*(?![^,\n])")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_SPECIAL = {
    f"{sign}{word}": float(f"{sign}{word}")
    for sign in ("", "+", "-")
    for word in ("nan", "inf", "infinity")
}
_TRUTH = {"True": True, "False": False, "true": True, "false": False}
_END = b',"",'  # of a row; cells have no quotes then

# an unreadable row: its line number, its cells
OnOdd = Callable[[int, list[str]], None]


class Cells:
    """Collects the rows of separated text as columns.

    `names`: the key of each column; None: not read. `missing`: cells without a value, besides
    blank ones. `on_odd` is called for rows with another number of cells, and for those equal to
    the `header`; they are left out.
    """

    def __init__(
        self,
        names: Sequence[str | None],
        separator: str,
        missing: Sequence[str],
        on_odd: OnOdd,
        header: Sequence[str] = (),
    ) -> None:
        self.columns = RowColumns()
        self._names, self._separator = names, separator
        self._words = _json_words(missing)
        self._known: dict[str, object] = dict.fromkeys(("", *missing))
        self._on_odd, self._header = on_odd, [*header]
        self._lines: list[Int64] = []
        self._has_blanks = False  # in the last block of numbers

    @property
    def lines(self) -> Int64:
        """The line number of each row (int64, n)."""
        return np.concatenate([np.empty(0, np.int64), *self._lines])

    def add(self, text: bytes, line: int) -> None:
        """Add the rows of a text of whole lines, the first with the number `line`."""
        for block in blocks(text):
            count = block.count(b"\n")
            flat = self._as_numbers(block, count)
            if flat is None:
                self._has_blanks = True
                self._add_rows(block, line)
            else:
                width = len(self._names)
                columns = [flat[at :: width + 1] for at in range(width)]
                self._add_columns(columns, np.arange(line, line + count))
            line += count

    def _as_numbers(self, block: bytes, count: int) -> list[object] | None:
        """The cells of all rows, each row with an empty text behind it; None for other rows."""
        if self._separator != ",":
            if b"," in block:
                return None
            block = block.replace(self._separator.encode(), b",")
        others = block.translate(None, _NUMBER_BYTES)
        if others:
            if others.translate(None, _WORD_BYTES):
                return None
            block = _WORD.sub(lambda word: self._words.get(word[1], b"?"), block)
        flat = None if self._has_blanks or others else _parsed(block)
        if flat is None:
            flat, self._has_blanks = _parsed(_with_nulls(block)), True
        width = len(self._names) + 1
        if flat is None or len(flat) != count * width:
            return None
        return flat if flat[width - 1 :: width].count("") == count else None

    def _add_columns(self, columns: Sequence[list[object]], lines: Int64) -> None:
        """Add some rows by their columns; None: no value."""
        first = self.columns.rows
        every = np.arange(first, first + len(lines))
        for name, values in zip(self._names, columns, strict=True):
            if name is None:
                continue
            rows = every
            if self._has_blanks and NoneType in {*map(type, values)}:
                has_value = np.fromiter(map(is_not, values, repeat(None)), bool, len(values))
                rows, values = every[has_value], [*compress(values, has_value)]
            if values:
                self.columns.append(name, rows, values)
        self.columns.rows += len(lines)
        self._lines.append(lines)

    def _add_rows(self, block: bytes, line: int) -> None:
        """Add the rows of a block one by one."""
        width = len(self._names)
        rows, lines = [], []
        for number, cells in rows_of(block, self._separator, line):
            if len(cells) == width and not self._is_header(cells):
                rows.append(cells)
                lines.append(number)
            elif any(cell.strip() for cell in cells):
                self._on_odd(number, cells)
        if rows:
            value = self._value
            columns = [[*map(value, column)] for column in zip(*rows, strict=True)]
            self._add_columns(columns, np.array(lines, np.int64))

    def _is_header(self, cells: Sequence[str]) -> bool:
        """Whether a row repeats the names of the columns."""
        return cells[0].strip() in self._header[:1] and [*map(str.strip, cells)] == self._header

    def _value(self, cell: str) -> object:
        """The number, truth value or text of a cell; None for a missing one."""
        text = cell.strip()
        if text in self._known:
            return self._known[text]
        value = number_of(text)
        return text if value is None else value


def number_of(text: str) -> bool | int | float | None:
    """The number or truth value with this text; None for other texts."""
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= MAX_DIGITS else float(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return _TRUTH.get(text, _SPECIAL.get(text.lower()))


def rows_of(block: bytes, separator: str, line: int = 1) -> Iterator[tuple[int, list[str]]]:
    """The cells of each filled row, with the number of its line."""
    lines = block.decode(errors="replace").split("\n")
    reader = csv.reader((f"{each}\n" for each in lines[:-1]), delimiter=separator)
    end = 0
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:  # a cell of more than 128 KiB
            cells = [""]
        if cells is None:
            return
        if cells:
            yield line + end, cells
        end = reader.line_num


def blocks(text: bytes) -> Iterator[bytes]:
    """The text in blocks of whole rows; a quoted cell may contain line ends."""
    start, size = 0, len(text)
    while start < size:
        end = text.find(b"\n", min(start + BLOCK_BYTES, size) - 1) + 1 or size
        while end < size and text.count(b'"', start, end) % 2:
            end = text.find(b"\n", end) + 1 or size
        yield text[start:end]
        start = end


def _parsed(block: bytes) -> list[object] | None:
    """The cells of all rows, each row with an empty text behind it; None if they are not JSON."""
    try:
        flat: list[object] = from_json(b"[" + block[:-1].replace(b"\n", _END) + b',""]')
    except ValueError:
        return None
    return flat


def _with_nulls(block: bytes) -> bytes:
    """The block with `null` in blank cells."""
    if b",," in block:
        block = block.replace(b",,", b",null,").replace(b",,", b",null,")
    if b",\n" in block:
        block = block.replace(b",\n", b",null\n")
    if b"\n," in block:
        block = block.replace(b"\n,", b"\nnull,")
    return b"null" + block if block[:1] == b"," else block


def _json_words(missing: Sequence[str]) -> dict[bytes, bytes]:
    """The JSON of words for numbers and missing values, in some spellings."""
    words: dict[bytes, bytes] = {}
    for text in ("nan", "inf", "infinity"):
        for spelling in {text, text.upper(), text.capitalize(), "NaN" if text == "nan" else text}:
            for sign in ("", "+", "-"):
                json = "NaN" if text == "nan" else f"{sign.strip('+')}Infinity"
                words[f"{sign}{spelling}".encode()] = json.encode()
    return words | {text.encode(): b"null" for text in missing}
