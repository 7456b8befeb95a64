"""Reads the history rows of a W&B run into columns, all rows of a file at once.

Most rows of a run have the same keys, so they are read in parallel: the first item of each row,
then the second, and so on. Records of other programs are read item by item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from bridges.exporters.base import Points, Recorded
from bridges.exporters.wandb.history import OWN, STEP_KEYS, VALUE_TAG
from bridges.formats.wandb_log.batch import by_size, windows
from bridges.formats.wandb_log.log import LogError, fields
from bridges.stream.columns import as_array
from bridges.stream.model import Int64, Values

HISTORY = 2  # the field of a record that holds a row
NUMBER = 0x08  # field 1 of a record
ITEM, ITEM_NAME = 0x0A, 0x0A  # field 1 of a row, and field 1 of an item
MIN_ARRAY_ROWS = 32  # below, rows are read one by one
Mask = NDArray[np.bool_]
Piece = tuple[Int64, Values]  # rows and values of one key: int64, float64 or object


@dataclass(frozen=True)
class Spans:
    """n byte strings in `data`, by start and end (int64, n)."""

    data: bytes
    start: Int64
    end: Int64

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Spans:
        """Join the strings."""
        size = np.fromiter(map(len, strings), np.int64, len(strings))
        end = np.cumsum(size)
        padding = b"\0" * 4  # the reader looks up to 4 bytes ahead
        return cls(b"".join([*strings, padding]), end - size, end)

    def __len__(self) -> int:
        return len(self.start)


def split_history(records: Sequence[bytes]) -> tuple[Spans, list[bytes]]:
    """The history rows of a log (contents of their records), and the other records."""
    spans = Spans.of(records)
    start, is_row = _Text(spans.data).contents(spans.start, spans.end)
    pairs = zip(records, is_row.tolist(), strict=True)
    others = [record for record, is_plain in pairs if not is_plain]
    if any(_row_of(record) for record in others):  # records of other programs have more fields
        rows = [row for row in map(_row_of, records) if row]
        return Spans.of(rows), [record for record in others if not _row_of(record)]
    return Spans(spans.data, start[is_row], spans.end[is_row]), others


def _row_of(record: bytes) -> bytes:
    """The history row in a record; empty if it has none."""
    content = dict(fields(record)).get(HISTORY, b"")
    return content if isinstance(content, bytes) else b""


def read_rows(parts: Sequence[Spans]) -> Recorded:
    """The points in the history rows of a run's parts, with the steps of the step key.

    Raises LogError if a row cannot be read, or lacks its step or time.
    """
    pieces: dict[bytes, list[Piece]] = {}
    count = 0
    try:
        for part in parts:
            for key, rows, values in _pieces(part):
                pieces.setdefault(key, []).append((rows + count, values))
            count += len(part)
        columns = {key.decode(): _joined(found) for key, found in pieces.items()}
        return recorded(columns, count)
    except (ValueError, IndexError) as error:
        raise LogError(f"a row of its history cannot be read: {error}") from None


def first_step(rows: Spans) -> int:
    """`_step` of the first row."""
    row = rows.data[int(rows.start[0]) : int(rows.end[0])]
    content = dict(fields(row)).get(2, b"")
    step = dict(fields(content)).get(1, 0) if isinstance(content, bytes) else 0
    return step if isinstance(step, int) else 0


def _pieces(part: Spans) -> Iterator[tuple[bytes, Int64, Values]]:
    """The pieces of columns: key, rows, values."""
    text, rows, at = _Text(part.data), np.arange(len(part)), part.start
    while len(rows) > MIN_ARRAY_ROWS:
        items = text.items(at, part.end[rows])
        odd = ~items.is_plain
        if odd.any():
            yield from _by_hand(part, rows[odd], at[odd])
            rows, items = rows[~odd], items.only(~odd)
        yield from text.columns(rows, items)
        more = text.at(items.end) == ITEM
        more &= items.end < part.end[rows]
        rows, at = rows[more], items.end[more]
    yield from _by_hand(part, rows, at)


@dataclass(frozen=True)
class _Items:
    """One item of each of n rows: offsets of key, value and end (int64, n each)."""

    key: Int64
    key_size: Int64
    value: Int64
    value_size: Int64
    end: Int64
    is_plain: Mask

    def only(self, rows: object) -> _Items:
        """The items of some rows."""
        return _Items(*(column[rows] for column in vars(self).values()))


class _Text:
    """The bytes of many rows, read at many positions at once."""

    def __init__(self, content: bytes) -> None:
        self._bytes = content
        self._data = np.frombuffer(self._bytes, np.uint8)

    def at(self, positions: Int64) -> NDArray[np.uint8]:
        """The bytes at positions. Raises IndexError beyond the end."""
        found: NDArray[np.uint8] = self._data[positions]
        return found

    def strings(self, positions: Int64, size: int) -> Values:
        """The `size` bytes from each position on, as an array of dtype S."""
        found: Values = windows(self._data, size)[positions]
        return found

    def contents(self, start: Int64, end: Int64) -> tuple[Int64, Mask]:
        """The content offset of each record, and whether it is a plain history row.

        A plain history row has a number and a row, and nothing else.
        """
        is_row = (self.at(start) == NUMBER) & (end - start > 4)
        _, at = self._varints(np.where(is_row, start + 1, 0))
        is_row &= self.at(at) == HISTORY << 3 | 2
        size, at = self._varints(np.where(is_row, at + 1, 0))
        return at, is_row & (at + size == end)

    def items(self, at: Int64, row_end: Int64) -> _Items:
        """The items at positions; items that are not plain must be read one by one."""
        size, start = self._varints(at + 1)
        end = start + size
        is_plain = (self.at(at) == ITEM) & (end <= row_end)
        start = np.where(is_plain, start, 0)  # other items are ignored
        is_plain &= self.at(start) == ITEM_NAME
        key_size, key = self._varints(start + 1)
        tag = np.where(is_plain & (key + key_size < row_end), key + key_size, 0)
        is_plain &= (self.at(tag) == VALUE_TAG[0]) & (self.at(tag + 1) == VALUE_TAG[1])
        value_size, value = self._varints(tag + 2)
        is_plain &= value + value_size == end
        return _Items(key, key_size, value, value_size, end, is_plain)

    def _varints(self, at: Int64) -> tuple[Int64, Int64]:
        """The numbers at positions, and the positions after them; -1 for long numbers."""
        byte = self.at(at)
        number, at = (byte & 0x7F).astype(np.int64), at + 1
        for shift in (7, 14, 21):
            more = np.flatnonzero(byte >= 0x80)
            if not len(more):
                return number, at
            following = self.at(at[more])
            number[more] |= (following & 0x7F).astype(np.int64) << shift
            at[more] += 1
            byte = np.zeros(len(at), np.uint8)
            byte[more] = following
        number[byte >= 0x80] = -1
        return number, at

    def columns(self, rows: Int64, items: _Items) -> Iterator[tuple[bytes, Int64, Values]]:
        """The values of these items, key by key."""
        while len(rows):
            start, size = int(items.key[0]), int(items.key_size[0])
            key = self._bytes[start : start + size]
            same = items.key_size == size
            same[same] = self.strings(items.key[same], size) == key.rstrip(b"\0")
            found = items.only(same)
            yield key, rows[same], self._values(found.value, found.value_size)
            rows, items = rows[~same], items.only(~same)

    def _values(self, start: Int64, size: Int64) -> Values:
        """The JSON values at positions (see `as_values`)."""
        groups = [*by_size(size)]
        parsed = [self._parsed(start[members], width) for width, members in groups]
        values = np.empty(len(start), np.result_type(*parsed))
        for (_, members), part in zip(groups, parsed, strict=True):
            values[members] = part
        return values

    def _parsed(self, start: Int64, size: int) -> Values:
        """Values of one size."""
        joined = np.full((len(start), size + 1), ord(","), np.uint8)
        joined[:, :size] = self.strings(start, size).view(np.uint8).reshape(-1, size)
        return as_values(from_json(b"[%s]" % joined.tobytes()[:-1]))


def as_values(found: list[object]) -> Values:
    """Values as int64 or float64 if all are numbers, else as objects."""
    if type(found[0]) in (float, int, bool):
        with suppress(ValueError):  # for nested lists of different lengths
            numbers = np.array(found)
            if numbers.ndim == 1 and numbers.dtype.kind in "fiub":
                return numbers if numbers.dtype == np.int64 else numbers.astype(np.float64)
    return as_array(found, object)


def _by_hand(part: Spans, rows: Int64, starts: Int64) -> Iterator[tuple[bytes, Int64, Values]]:
    """The values of some rows from `starts` on, item by item."""
    for row, start in zip(rows.tolist(), starts.tolist(), strict=True):
        nested: dict[str, object] = {}
        for number, content in fields(part.data[start : int(part.end[row])]):
            if number == 1 and isinstance(content, bytes):
                _put(nested, content)
        for key, value in nested.items():
            yield key.encode(), np.array([row]), as_values([value])


def _put(row: dict[str, object], item: bytes) -> None:
    """Add one item to a row; a value under several names is a nested object."""
    names, value = [], b"null"
    for number, content in fields(item):
        assert isinstance(content, bytes)
        if number in (1, 2):
            names.append(content.decode())
        elif number == 16:
            value = content
    *outer, last = names
    for name in outer:
        inner = row.setdefault(name, {})
        assert isinstance(inner, dict)
        row = inner
    row[last] = from_json(value)


def _joined(pieces: list[Piece]) -> Piece:
    """One column from its pieces, sorted by row."""
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate([rows for rows, _ in pieces])
    values = np.concatenate([values for _, values in pieces])
    order = np.argsort(rows, kind="stable")
    return rows[order], values[order]


def recorded(columns: Mapping[str, Piece], count: int) -> Recorded:
    """The points of columns of `count` rows. Raises ValueError if a step or time is missing."""
    step_key = next((key for key in STEP_KEYS if _has_all(columns, key, count)), STEP_KEYS[0])
    step = _own(columns, step_key, count).astype(np.int64)
    time = _own(columns, "_timestamp", count).astype(np.float64)
    points, others = {}, []
    for key, (rows, values) in columns.items():
        if key == step_key or key in OWN:
            continue
        if values.dtype == object:
            is_number = np.array([type(value) in (float, int, bool) for value in values], bool)
            pairs = zip(rows[~is_number].tolist(), values[~is_number].tolist(), strict=True)
            others += [(key, int(step[row]), value) for row, value in pairs]
            rows, values = rows[is_number], values[is_number]
        if len(rows):
            points[key] = Points(step[rows], values.astype(np.float64), time[rows])
    return Recorded(points, tuple(others))


def _has_all(columns: Mapping[str, Piece], key: str, count: int) -> bool:
    """Whether every row has a number for a key."""
    return key in columns and len(columns[key][0]) == count and columns[key][1].dtype != object


def _own(columns: Mapping[str, Piece], key: str, count: int) -> Values:
    rows, values = columns.get(key, (np.empty(0), np.empty(0)))
    if len(rows) != count or values.dtype == object:
        raise ValueError(f"{count - len(rows)} of {count} rows have no {key}")
    return values
