"""Converts blocks of numbers and blank cells to arrays; columns of texts may lie between them.

NumPy finds the separators. Arrow, or else one JSON list of all numbers, gives the nearest float64
of each cell and keeps integers.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from bridges.stream.model import Float64, Int64, Values

Bools = NDArray[np.bool_]

ARROW_BYTES = 10 << 20  # of a table for which the import of Arrow pays
SAMPLE_ROWS = 16
MAX_DIGITS = 4300  # of an integer that Python converts
_MAX_BYTES = 2**31 - 2  # of a block: its offsets are int32
_LINE_FEED, _DOT, _NINE = b"\n.9"
_OTHER_ROWS = (b'"', b"\r")  # a block with such rows is left to the module csv
_NO_NUMBERS = (b"x", b"X", b"(")  # to Arrow, 0x1A and nan(1) are numbers
NUMBER_BYTES = b"0123456789.,-+eE \n"
_WORD = re.compile(rb"(?<![^,\n])[ ]*[+]?(-?)(nan|inf|infinity)(?![^,\n])", re.IGNORECASE)
_JSON_WORDS = {b"n": b"NaN%.0b", b"i": b"%bInfinity"}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_SPECIAL = {
    f"{sign}{word}": float(f"{sign}{word}")
    for sign in ("", "+", "-")
    for word in ("nan", "inf", "infinity")
}
_TRUTH = {"True": True, "False": False, "true": True, "false": False}


def number_of(text: str) -> bool | int | float | None:
    """The number or truth value with this text; None for other texts."""
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= MAX_DIGITS else float(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return _TRUTH.get(text, _SPECIAL.get(text.lower()))


def is_number(text: str) -> bool:
    """Whether a text is a number, and no truth value."""
    return type(number_of(text)) in (int, float)


@dataclass
class Block:
    """The cells of a block of whole lines, row by row.

    offsets: the begin and the end of each cell in turn, and the end of the text (int32, 2 n + 1)
    is_float, is_int: the kind of a cell, if it is a number (n); other cells have none
    """

    text: bytes
    separator: bytes
    offsets: NDArray[np.int32]
    is_float: Bools
    is_int: Bools

    def texts(self, chosen: slice) -> list[str]:
        """The texts of some cells."""
        starts, ends = self.offsets[:-1:2][chosen], self.offsets[1::2][chosen]
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        return [self.text[start:end].decode(errors="replace") for start, end in spans]


@dataclass
class Numbers:
    """The values of the cells of a block; each array is rows × columns.

    The value of a cell is in `floats` if it `is_float`, in `ints` if it `is_int`. `texts` has the
    cells of the columns of texts, by the position of the column.
    """

    is_float: Bools
    is_int: Bools
    floats: Float64
    ints: Int64
    texts: dict[int, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.is_float)

    def parts(self, column: int, rows: Int64) -> list[tuple[Int64, Values]]:
        """The rows and values of each kind in a column; the kind of its first value comes first."""
        found: list[tuple[Int64, Values]] = []
        for is_kind, values in ((self.is_float, self.floats), (self.is_int, self.ints)):
            is_own = is_kind[:, column]
            if is_own.all():
                return [(rows, values[:, column].copy())]
            if is_own.any():
                found.append((rows[is_own], values[is_own, column]))
        return sorted(found, key=lambda part: int(part[0][0]))


# the floats and integers of cells (n each); None if a cell is not a plain number
Convert = Callable[[Block], tuple[Float64, Int64] | None]


class NumberParser:
    """Parses blocks of lines with a number of columns; `size`: of all blocks, in bytes."""

    def __init__(self, columns: int, separator: str, size: int) -> None:
        self._columns, self._separator = columns, separator.encode()
        self._float_columns = np.zeros(columns, bool)  # of the block before
        self._is_text = np.zeros(columns, bool)  # whether a column has texts
        arrow = _arrow(size)
        self._converters = [_by_json] if arrow is None else [arrow, _by_json]

    def parse(self, block: bytes) -> Numbers | None:
        """The numbers of a block; None if it has other cells, or a line of another width."""
        cells = None if any(map(block.__contains__, _OTHER_ROWS)) else self._cells(block)
        if cells is None:
            return None
        values = self._values(cells)
        if values is None and self._find_texts(cells):
            return self.parse(block)
        if values is None:
            return None
        shape = (-1, self._columns)
        is_float, is_int = cells.is_float.reshape(shape), cells.is_int.reshape(shape)
        self._float_columns = np.logical_or.reduce(is_float)
        places = np.flatnonzero(self._is_text).tolist()
        texts = {at: cells.texts(slice(at, None, self._columns)) for at in places}
        return Numbers(is_float, is_int, values[0].reshape(shape), values[1].reshape(shape), texts)

    def _values(self, cells: Block) -> tuple[Float64, Int64] | None:
        """The values by the first conversion that knows all cells."""
        return next(filter(None, (convert(cells) for convert in self._converters)), None)

    def _find_texts(self, cells: Block) -> bool:
        """Note columns whose first cells are no numbers; whether there are new ones."""
        before = self._is_text.copy()
        texts = [*map(str.strip, cells.texts(slice(SAMPLE_ROWS * self._columns)))]
        for at in np.flatnonzero(~before).tolist():
            filled = [text for text in texts[at :: self._columns] if text]
            self._is_text[at] = bool(filled) and not any(map(is_number, filled))
        return bool((self._is_text & ~before).any())

    def _cells(self, block: bytes) -> Block | None:
        """The cells of a block; None if a line is blank or has another number of them."""
        text = np.frombuffer(block, np.uint8)
        is_line_end: Bools = text == _LINE_FEED
        is_end = is_line_end | (text == self._separator[0])
        ends = np.flatnonzero(is_end)
        if len(block) > _MAX_BYTES or not self._has_rows(ends, is_line_end):
            return None
        offsets = _offsets(ends)
        sizes = offsets[1::2] - offsets[:-1:2]
        if self._is_text.any() and sizes.max() > csv.field_size_limit():
            return None
        may_be_number = (sizes > 0).reshape(-1, self._columns) & ~self._is_text
        is_float = self._is_float(text, is_end, ends, may_be_number)
        return Block(block, self._separator, offsets, is_float, may_be_number.ravel() & ~is_float)

    def _has_rows(self, ends: Int64, is_line_end: Bools) -> bool:
        """Whether the cells with these ends are filled rows of the right width."""
        if len(ends) != np.count_nonzero(is_line_end) * self._columns:
            return False
        is_blank_line = self._columns == 1 and (np.diff(ends, prepend=-1) == 1).any()
        return (
            bool(is_line_end[ends[self._columns - 1 :: self._columns]].all()) and not is_blank_line
        )

    def _is_float(
        self, text: NDArray[np.uint8], is_end: Bools, ends: Int64, may_be_number: Bools
    ) -> Bools:
        """Whether a cell has a dot or a letter (n), if all of these cells are numbers.

        A number has one dot at most. So if there are as many dots as cells in the columns of floats
        and the others are integers, each of these cells has one.
        """
        is_dot = text == _DOT
        likely = may_be_number & self._float_columns
        if np.count_nonzero(is_dot) == np.count_nonzero(likely) and not self._is_text.any():
            return likely.ravel()
        is_float = np.zeros(len(ends), bool)
        marks = np.flatnonzero((is_dot | (text > _NINE)) & ~is_end)
        is_float[np.searchsorted(ends, marks)] = True
        return is_float & may_be_number.ravel()


def _offsets(ends: Int64) -> NDArray[np.int32]:
    """The begin and the end of each cell in turn, and the end of the text (2 n + 1)."""
    offsets = np.empty(2 * len(ends) + 1, np.int32)
    offsets[0], offsets[1::2] = 0, ends
    offsets[2::2] = offsets[1::2] + 1
    return offsets


def _arrow(size: int) -> Convert | None:
    """Conversion by Arrow; None if it is not installed, or its import does not pay."""
    if size < ARROW_BYTES and "pyarrow" not in sys.modules:
        return None
    try:
        import pyarrow
        import pyarrow.compute  # for `cast`
    except ImportError:
        return None

    def values(cells: Block, is_own: Bools, dtype: type[np.generic]) -> Values:
        is_valid = np.zeros(2 * len(is_own), bool)  # the texts between cells are null
        is_valid[::2] = is_own
        buffers = (np.packbits(is_valid, bitorder="little"), cells.offsets, cells.text)
        texts = pyarrow.Array.from_buffers(
            pyarrow.string(), len(is_valid), [pyarrow.py_buffer(buffer) for buffer in buffers]
        )
        found = texts.cast(pyarrow.from_numpy_dtype(dtype)).buffers()[1]
        return np.frombuffer(found, dtype, len(is_valid))[::2]

    def convert(cells: Block) -> tuple[Float64, Int64] | None:
        if any(text in cells.text for text in _NO_NUMBERS):
            return None
        try:
            return values(cells, cells.is_float, np.float64), values(cells, cells.is_int, np.int64)
        except pyarrow.ArrowInvalid:
            return None

    return convert


def _by_json(cells: Block) -> tuple[Float64, Int64] | None:
    """Conversion of all cells as one JSON list."""
    text = _json_text(cells)
    if text is None:
        return None
    has_value = cells.is_float | cells.is_int
    floats, ints = np.zeros(len(has_value)), np.zeros(len(has_value), np.int64)
    try:
        found: list[object] = from_json(b"[%b]" % text)
        own = [*compress(found, cells.is_int[has_value].tolist())]
        if len(found) != np.count_nonzero(has_value) or {*map(type, own)} - {int}:
            return None
        floats[has_value] = np.fromiter(found, np.float64, len(found))
        ints[cells.is_int] = np.array(own, np.int64)
    except (ValueError, OverflowError):
        return None
    return floats, ints


def _json_text(cells: Block) -> bytes | None:
    """The filled cells as members of a JSON list; None if they have other characters."""
    text = cells.text
    has_value = cells.is_float | cells.is_int
    if not has_value.all():
        is_kept = np.repeat(has_value, np.diff(cells.offsets[::2]))  # with its separator
        text = np.frombuffer(text, np.uint8)[is_kept].tobytes()
    if cells.separator != b",":
        if b"," in text:
            return None
        text = text.replace(cells.separator, b",")
    if text.translate(None, NUMBER_BYTES):
        text = _WORD.sub(lambda word: _JSON_WORDS[word[2][:1].lower()] % word[1], text)
        if text.translate(None, NUMBER_BYTES + b"NaInfity"):
            return None
    return text[:-1].replace(b"\n", b",")
