"""Reads the history rows of a W&B run into columns, piece by piece.

Most rows of a run have the same number of items, in any order. So the first items of all rows are
located together, then the second ones, and so on; the items are split by key, and the values of a
key are parsed together. Other rows, and those of a piece with few rows, are read item by item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from bridges.formats.wandb_log.batch import by_size
from bridges.formats.wandb_log.items import (
    ITEM_TAG,
    KEY_TAG,
    NESTED_TAG,
    STEP_TAG,
    VALUE_TAG,
    Path,
    item_value,
    plain_items,
    plain_row,
)
from bridges.formats.wandb_log.log import fields
from bridges.formats.wandb_log.reader import PADDING, Records
from bridges.stream.columns import typed_parts, values_by_key
from bridges.stream.model import Int64, Values

NUMBER_TAG, HISTORY_TAG, SUMMARY_TAG = 0x08, 0x12, 0x1A  # fields 1, 2 and 3 of a record
WORD = 8  # bytes compared at once
FEW_KEYS = 16
FEW_ROWS = 32  # whose items are faster read one by one
MAX_SINGLE_VALUES = 500_000  # some 50 MB
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying by it loses no bit
KEPT_SUMMARIES = 2  # of those that follow each row: the last ones

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Column(NamedTuple):
    """The values of one type at a path: row positions (int64, increasing) and values."""

    path: Path
    rows: Int64
    values: Values


@dataclass(frozen=True)
class _Items:
    """n items: position of the row, offsets and sizes of key and value (int64, n each)."""

    row: Int64
    key: Int64
    key_size: Int64
    value: Int64
    value_size: Int64

    def only(self, chosen: Mask | Int64) -> _Items:
        """The chosen items."""
        return _Items(*(column[chosen] for column in vars(self).values()))

    @classmethod
    def joined(cls, parts: list[_Items]) -> _Items:
        """The items of all parts."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))


class HistoryColumns:
    """The columns of history rows from the pieces of one or more logs.

    count: rows so far
    rounded: integers beyond int64, which become floats; complete after `columns`
    unreadable: unreadable values or rows, which are left out
    """

    def __init__(self) -> None:
        self.count = self.rounded = self.unreadable = 0
        self._parts: dict[Path, dict[str, list[tuple[Int64, Values]]]] = {}  # and by dtype.kind
        self._single = _SingleValues()

    def add(self, records: Records) -> list[bytes]:
        """Add the rows of a piece. Returns its other records, without summaries of single rows."""
        if not len(records):
            return []
        text = _Text(records.data)
        tag, at = text.tags(records.start, records.end)
        is_row = tag == HISTORY_TAG
        self._add_rows(text, *text.contents(at[is_row], records.end[is_row]))
        is_other = ~is_row & ~text.is_repeated_summary(tag, at, records.end)
        bounds = zip(records.start[is_other].tolist(), records.end[is_other].tolist(), strict=True)
        return [records.data[start:end] for start, end in bounds]

    def add_rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows from another place than a log."""
        for key, (positions, values) in values_by_key(rows).items():
            self._put((key,), positions, values)
        self.count += len(rows)

    def _add_rows(self, text: _Text, start: Int64, end: Int64) -> None:
        if len(start) < FEW_ROWS:
            self._add_few(text.content, start, end)
            return
        items, odd = text.items(start, end)
        is_wide = len(items.key) > FEW_KEYS * len(start)  # then all values are parsed at once
        values = text.all_values(items.value, items.value_size) if is_wide else None
        for key, members in text.by_key(items, FEW_KEYS * (not is_wide)):
            path, own = (key.decode(errors="replace"),), items.only(members)
            if values is not None:
                self._add_values(path, own.row, values[members].tolist())
                continue
            order, found = text.values(own.value, own.value_size)
            if found is None:
                self._add_each(text, path, own)
            else:
                self._add_values(path, own.row[order], found, order)
        for row in odd.tolist():
            self._add_by_hand(row, text.content[int(start[row]) : int(end[row])])
        self.count += len(start)

    def _add_few(self, content: bytes, start: Int64, end: Int64) -> None:
        """Add rows one by one: the few rows of a piece may have thousands of keys each."""
        for first, stop in zip(start.tolist(), end.tolist(), strict=True):
            found = plain_row(content, first, stop)
            if found is None:
                self._add_by_hand(0, content[first:stop])
            else:
                self._single.add(self.count, found)
            self.count += 1
        if self._single.count >= MAX_SINGLE_VALUES:
            self._put_single()

    def _put_single(self) -> None:
        for key, rows, values in self._single.taken():
            self._put((key.decode(errors="replace"),), rows - self.count, values)

    def _add_values(
        self, path: Path, rows: Int64, values: list[object], order: Int64 | None = None
    ) -> None:
        """Add the values of a path; of several values in a row, the last one.

        `order`: their positions in the log (int64, n), unless they are in order.
        """
        in_rows = np.argsort(rows, kind="stable")
        if (np.diff(rows[in_rows]) == 0).any():
            in_rows = in_rows if order is None else np.lexsort((order, rows))
            in_rows = in_rows[np.append(np.diff(rows[in_rows]) != 0, True)]
            rows, values = rows[in_rows], [values[at] for at in in_rows.tolist()]
        self._put(path, rows, values)

    def _add_each(self, text: _Text, path: Path, items: _Items) -> None:
        """Add the values of a path one by one: some of the piece are not JSON."""
        found = {}
        stop = items.value + items.value_size
        bounds = zip(items.row.tolist(), items.value.tolist(), stop.tolist(), strict=True)
        for row, start, end in bounds:
            with self._counting():
                found[row] = json.loads(text.content[start:end])
        rows = sorted(found)
        self._put(path, np.array(rows, np.int64), [found[row] for row in rows])

    def _add_by_hand(self, row: int, content: bytes) -> None:
        found: dict[Path, object] = {}
        with self._counting():
            for number, item in fields(content):
                if number == 1 and isinstance(item, bytes):
                    with self._counting():
                        path, value = item_value(item)
                        found[path] = value
        for path, value in found.items():
            self._put(path, np.array([row]), [value])

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count an unreadable value or row."""
        try:
            yield
        except (ValueError, RecursionError):  # also LogError, and those of texts and JSON
            self.unreadable += 1

    def _put(self, path: Path, rows: Int64, values: list[object]) -> None:
        """Add values of any types at rows of the current piece."""
        if not values:
            return
        parts, rounded = typed_parts(rows + self.count, values)
        self.rounded += len(rounded)
        by_kind = self._parts.setdefault(path, {})
        for part in parts:
            by_kind.setdefault(part[1].dtype.kind, []).append(_sorted(*part))

    def columns(self) -> Iterator[Column]:
        """The columns of all rows, one for each path and type. Call it once."""
        self._put_single()
        for path in [*self._parts]:
            for parts in self._parts.pop(path).values():
                rows, values = map(np.concatenate, zip(*parts, strict=True))
                parts.clear()
                yield Column(path, *_sorted(rows, values))


class _SingleValues:
    """Values of single rows by key, collected over pieces."""

    def __init__(self) -> None:
        self.count = 0
        self._found: dict[bytes, tuple[list[int], list[object]]] = {}

    def add(self, row: int, found: Mapping[bytes, object]) -> None:
        """Add the values of a row."""
        for key, value in found.items():
            rows, values = self._found.get(key) or self._found.setdefault(key, ([], []))
            rows.append(row)
            values.append(value)
        self.count += len(found)

    def taken(self) -> Iterator[tuple[bytes, Int64, list[object]]]:
        """All values so far, which are removed: key, rows and values."""
        for key, (rows, values) in self._found.items():
            yield key, np.array(rows, np.int64), values
        self.count, self._found = 0, {}


def _sorted(rows: Int64, values: Values) -> tuple[Int64, Values]:
    """The values in the order of their rows."""
    if not (rows[1:] < rows[:-1]).any():
        return rows, values
    order = np.argsort(rows, kind="stable")
    return rows[order], values[order]


class _Text:
    """The bytes of a piece, read at many positions at once."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._data = np.frombuffer(content, np.uint8)
        self._words = np.ndarray((len(content) - WORD + 1,), "<u8", content, strides=(1,))
        self._last = len(content) - len(PADDING)  # the last position to look at

    def at(self, positions: Int64) -> Bytes:
        """The bytes at positions; those beyond the text are of no meaning."""
        found: Bytes = self._data[np.minimum(positions, self._last)]
        return found

    def tags(self, start: Int64, end: Int64) -> tuple[Bytes, Int64]:
        """The first byte behind the number of each record (0: none), and its position."""
        has_number = self.at(start) == NUMBER_TAG
        _, behind = self.varints(start + 1)
        at = np.where(has_number, behind, start)
        return np.where(at < end, self.at(at), 0).astype(np.uint8), at

    def contents(self, at: Int64, end: Int64) -> tuple[Int64, Int64]:
        """Start and end of the sized fields at positions; empty if they exceed their records."""
        size, start = self.varints(at + 1)
        is_sound = (size >= 0) & (start + size <= end)
        return start, start + np.where(is_sound, size, 0)

    def is_repeated_summary(self, tag: Bytes, at: Int64, end: Int64) -> Mask:
        """Whether each record is a summary of a row, except the last ones of the piece.

        wandb-core writes such summaries behind each row; their values are those of the row. Those
        of `run.summary` have another field behind the content.
        """
        where = np.flatnonzero(tag == SUMMARY_TAG)
        _, stop = self.contents(at[where], end[where])
        is_plain = np.zeros(len(tag), bool)
        is_plain[where] = stop == end[where]
        is_first = is_plain & np.append(False, tag[:-1] == HISTORY_TAG)
        is_repeated: Mask = is_first | (is_plain & np.append(False, is_first[:-1]))
        is_repeated[np.flatnonzero(is_repeated)[-KEPT_SUMMARIES:]] = False
        return is_repeated

    def varints(self, at: Int64) -> tuple[Int64, Int64]:
        """The numbers at positions, and the positions behind them; -1 for long numbers."""
        byte = self.at(at)
        number, at = (byte & 0x7F).astype(np.int64), at + 1
        more = np.flatnonzero(byte & 0x80)
        for shift in (7, 14, 21):
            if not len(more):
                return number, at
            byte = self.at(at[more])
            number[more] |= (byte & 0x7F).astype(np.int64) << shift
            at[more] += 1
            more = more[byte >= 0x80]
        number[more] = -1
        return number, at

    def items(self, at: Int64, end: Int64) -> tuple[_Items, Int64]:
        """All items of rows, and the positions of the rows to be read by hand."""
        rows, found, odd = np.arange(len(at)), [_NO_ITEMS], [np.empty(0, np.int64)]
        while len(rows) >= FEW_ROWS:
            tag = self.at(at)
            is_item = (tag == ITEM_TAG) & (at < end)
            if not is_item.all():
                odd.append(rows[~is_item & (at < end) & (tag != STEP_TAG)])
                rows, at, end = rows[is_item], at[is_item], end[is_item]
            items, stop, is_plain = self._next_items(rows, at, end)
            if not is_plain.all():
                odd.append(rows[~is_plain])
                items = items.only(is_plain)
                rows, stop, end = rows[is_plain], stop[is_plain], end[is_plain]
            found.append(items)
            at = stop
        found.append(self._items_by_hand(rows, at, end, odd))
        items, by_hand = _Items.joined(found), np.concatenate(odd)
        if not len(by_hand):
            return items, by_hand
        by_hand = np.unique(by_hand)
        return items.only(~np.isin(items.row, by_hand)), by_hand

    def _items_by_hand(self, rows: Int64, at: Int64, end: Int64, odd: list[Int64]) -> _Items:
        """The other items of few rows, one by one; rows with other items are added to `odd`."""
        found: list[tuple[int, int, int, int, int]] = []
        for row, start, stop in zip(rows.tolist(), at.tolist(), end.tolist(), strict=True):
            items = plain_items(self.content, row, start, stop)
            if items is None:
                odd.append(np.array([row]))
            else:
                found += items
        return _Items(*np.array(found, np.int64).reshape(-1, 5).T)

    def _next_items(self, rows: Int64, at: Int64, end: Int64) -> tuple[_Items, Int64, Mask]:
        """The items at positions, their ends, and whether they have one name and a JSON value."""
        size, inner = self.varints(at + 1)
        stop = inner + size
        name = self.at(inner)
        is_plain = (size > 0) & (stop <= end) & ((name == NESTED_TAG) | (name == KEY_TAG))
        key_size, key = self.varints(inner + 1)
        tail = key + key_size
        is_plain &= (key_size >= 0) & (tail < end)
        is_plain &= (self.at(tail) == VALUE_TAG[0]) & (self.at(tail + 1) == VALUE_TAG[1])
        value_size, value = self.varints(tail + 2)
        is_plain &= (value_size > 0) & (value + value_size == stop)
        return _Items(rows, key, key_size, value, value_size), stop, is_plain

    def by_key(self, items: _Items, singly: int) -> Iterator[tuple[bytes, Int64]]:
        """The positions of the items of each key, in their order.

        As many keys as `singly` are found one by one, which is faster for few; others by sorting.
        """
        key, short = np.minimum(items.key, self._last), np.minimum(items.key_size, WORD)
        shift: NDArray[np.uint64] = (8 * (WORD - short) & 63).astype(np.uint64)
        head: NDArray[np.uint64] = np.left_shift(self._words[key], shift)
        left = np.arange(len(items.key))
        for _ in range(singly):
            if not len(left):
                return
            size = items.key_size[left[0]]
            is_same = (head[left] == head[left[0]]) & (items.key_size[left] == size)
            same, others = self._equal(items, left[is_same])
            yield self._key(items, same), same
            left = left[~is_same] if not len(others) else np.setdiff1d(left, same)
        mixed = self._mixed(items, head, left)
        order = np.argsort(mixed, kind="stable")
        for members in np.split(left[order], np.flatnonzero(np.diff(mixed[order])) + 1):
            others = members
            while len(others):
                same, others = self._equal(items, others)
                yield self._key(items, same), same

    def _key(self, items: _Items, members: Int64) -> bytes:
        at, size = int(items.key[members[0]]), int(items.key_size[members[0]])
        return self.content[at : at + size]

    def _mixed(self, items: _Items, head: NDArray[np.uint64], left: Int64) -> NDArray[np.uint64]:
        """A hash of the keys of the items `left` (uint64, n), from their words of 8 bytes."""
        key, size = items.key[left], items.key_size[left]
        mixed = head[left] * FACTOR + size.astype(np.uint64)
        for offset in range(WORD, int(size.max(initial=0)), WORD):
            longer = np.flatnonzero(size > offset)
            last = np.minimum(offset, size[longer] - WORD)
            mixed[longer] = mixed[longer] * FACTOR + self._words[key[longer] + last]
        return mixed

    def _equal(self, items: _Items, members: Int64) -> tuple[Int64, Int64]:
        """The members with the key of the first one, and the others, compared by all bytes."""
        key, size = items.key[members], items.key_size[members]
        first, width = int(key[0]), int(size[0])
        is_equal = size == width
        shift = np.uint64(8 * (WORD - min(width, WORD)) & 63)
        is_equal &= self._words[key] << shift == self._words[first] << shift
        for offset in [*range(WORD, width - WORD, WORD), width - WORD] if width > WORD else ():
            at = np.minimum(key + offset, self._last)
            is_equal &= self._words[at] == self._words[first + offset]
        return (members, members[:0]) if is_equal.all() else (members[is_equal], members[~is_equal])

    def values(self, start: Int64, size: Int64) -> tuple[Int64, list[object] | None]:
        """The JSON values at positions, and their order; no values if one of them is not JSON."""
        groups = [*by_size(size)]
        order = np.concatenate([members for _, members in groups])
        joined = b"".join(self._listed(start[members], width) for width, members in groups)
        try:
            found: list[object] = from_json(b"[%s]" % joined[:-1])
        except ValueError:
            return order, None
        return order, found if len(found) == len(order) else None

    def all_values(self, start: Int64, size: Int64) -> Values | None:
        """The JSON values at positions (object, n); None if one of them is not JSON."""
        order, found = self.values(start, size)
        if found is None:
            return None
        values = np.empty(len(found), object)
        values[order] = np.fromiter(found, object, len(found))
        return values

    def _listed(self, start: Int64, size: int) -> bytes:
        """The texts of one size at positions, each with a comma behind it."""
        count = len(self.content) - size + 1
        windows = np.ndarray((count,), f"V{size}", self.content, strides=(1,))
        listed = np.full((len(start), size + 1), ord(","), np.uint8)
        listed[:, :size] = windows[start].view(np.uint8).reshape(-1, size)
        return listed.tobytes()


_NO_ITEMS = _Items(*(np.empty(0, np.int64) for _ in range(5)))


def read_columns(pieces: Iterable[Records]) -> tuple[HistoryColumns, list[bytes]]:
    """The history of all pieces, and the other records."""
    history, others = HistoryColumns(), list[bytes]()
    for records in pieces:
        others += history.add(records)
    return history, others
