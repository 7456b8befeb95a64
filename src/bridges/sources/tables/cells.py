"""Converts the cells of separated text to typed columns, a block of lines at a time.

Blocks of numbers and blank cells are converted at once, other blocks row by row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from pydantic_core import from_json

from bridges.sources.tables.numbers import NUMBER_BYTES, NumberParser, Numbers, number_of
from bridges.stream.columns import RowColumns
from bridges.stream.model import Int64

BLOCK_BYTES = 1 << 19  # its values stay in the processor's cache
BLOCK_ROWS = 128  # at least, in wide tables: each column of a block costs
MAX_BLOCK_BYTES = 1 << 24

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
        self._missing = _cells_with(missing, separator)
        self._plain = NUMBER_BYTES + separator.encode()
        self._are_words = all(text.encode().translate(None, self._plain) for text in missing)
        self._known: dict[str, object] = dict.fromkeys(("", *missing))
        self._on_odd, self._header = on_odd, [*header]
        self._lines: list[Int64] = []

    @property
    def lines(self) -> Int64:
        """The line number of each row (int64, n)."""
        return np.concatenate([np.empty(0, np.int64), *self._lines])

    def add(self, text: bytes, line: int, start: int = 0) -> None:
        """Add the rows of whole lines of a text from `start`, which is in the line `line`."""
        parser = NumberParser(len(self._names), self._separator, len(text))
        for block in blocks(text, start):
            numbers = parser.parse(self._without_missing(block))
            if numbers is not None and not self._has_header(numbers):
                self._add_numbers(numbers, line)
                line += len(numbers)
            else:
                self._add_rows(block, line)
                line += block.count(b"\n")

    def _without_missing(self, block: bytes) -> bytes:
        """The block with blank cells in place of missing ones."""
        if self._missing is None:
            return block
        if self._are_words and not block.translate(None, self._plain):  # numbers only
            return block
        if not any(text.encode() in block for text in self._known if text):
            return block
        return self._missing.sub(b"", block)

    def _add_numbers(self, numbers: Numbers, line: int) -> None:
        """Add the rows of a block of numbers."""
        rows = np.arange(self.columns.rows, self.columns.rows + len(numbers))
        for at, name in enumerate(self._names):
            if name is not None:
                for part in numbers.parts(at, rows):
                    self.columns.append_array(name, *part)
                if at in numbers.texts:
                    self._add_column(name, [*map(self._value, numbers.texts[at])])
        self._end_rows(np.arange(line, line + len(numbers)))

    def _end_rows(self, lines: Int64) -> None:
        """Count the rows on some lines, whose values were added."""
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
        for at, name in enumerate(self._names):
            if name is not None:
                cells = [row[at] for row in rows]
                self._add_column(name, _numbers(cells) or [*map(self._value, cells)])
        self._end_rows(np.array(lines, np.int64))

    def _add_column(self, name: str, values: Sequence[object]) -> None:
        """Add the values of the next rows; None: no value."""
        filled = [at for at, value in enumerate(values) if value is not None]
        if filled:
            rows = self.columns.rows + np.array(filled, np.int64)
            self.columns.append(name, rows, [values[at] for at in filled])

    def _has_header(self, numbers: Numbers) -> bool:
        """Whether a row among numbers may repeat the names of the columns."""
        return any(cell.strip() in self._header[:1] for cell in numbers.texts.get(0, ()))

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


def _numbers(cells: Sequence[str]) -> list[object] | None:
    """The numbers in some cells, with None for blank ones; None for other cells."""
    filled = [cell for cell in cells if cell]
    text = ",".join(filled).encode()
    if text.translate(None, NUMBER_BYTES):
        return None
    try:
        found: list[object] = from_json(b"[%b]" % text)
    except ValueError:
        return None
    if len(found) != len(filled):
        return None
    numbers = iter(found)
    return (
        found if len(found) == len(cells) else [next(numbers) if cell else None for cell in cells]
    )


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


def blocks(text: bytes, start: int = 0) -> Iterator[bytes]:
    """The text from `start` in blocks of whole rows; a quoted cell may contain line ends."""
    size, has_quotes = len(text), b'"' in text
    row = text.find(b"\n", start) + 1 - start
    step = max(BLOCK_BYTES, min(BLOCK_ROWS * row, MAX_BLOCK_BYTES))
    while start < size:
        end = text.find(b"\n", min(start + step, size) - 1) + 1 or size
        is_open = has_quotes and text.count(b'"', start, end) % 2
        while is_open and end < size:
            after = text.find(b"\n", end) + 1 or size
            is_open ^= text.count(b'"', end, after) % 2
            end = after
        yield text[start:end]
        start = end


def _cells_with(texts: Sequence[str], separator: str) -> re.Pattern[bytes] | None:
    """A pattern of the cells with one of some texts; None without any."""
    if not texts:
        return None
    border = re.escape(separator.encode())
    choice = b"|".join(re.escape(text.encode()) for text in texts)
    return re.compile(rb"(?<![^%b\n]) *(?:%b) *(?![^%b\n])" % (border, choice, border))
