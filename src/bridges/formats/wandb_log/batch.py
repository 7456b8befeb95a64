"""Assembles many byte strings from columns, without a Python object per row.

A column contributes a prefix and a text to each of its rows. The prefix depends only on the length
of the text, so rows with texts of one length are written together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from bridges.stream.model import Int64, Values

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Texts:
    """n texts in `data`, with the start and size of each (int64, n)."""

    data: bytes
    start: Int64
    size: Int64


@dataclass(frozen=True)
class Column:
    """The texts of some rows (int64, increasing); `before` gives the prefix by text size."""

    rows: Int64
    before: Callable[[int], bytes]
    texts: Texts

    @cached_property
    def groups(self) -> list[tuple[Int64, bytes, Int64, int]]:
        """The texts by size: their rows, prefix, starts and size."""
        return [
            (self.rows[members], self.before(size), self.texts.start[members], size)
            for size, members in by_size(self.texts.size)
        ]


@dataclass(frozen=True)
class Batch:
    """n contiguous byte strings in `data`, with the end of each (int64, n)."""

    data: Bytes
    end: Int64

    def __len__(self) -> int:
        return len(self.end)

    @property
    def start(self) -> Int64:
        """The start of each string (int64, n)."""
        return np.concatenate([[0], self.end[:-1]]) if len(self.end) else self.end


def number_texts(values: list[object]) -> Texts:
    """Numbers as JSON: exact, with NaN and Infinity as wandb writes them."""
    if not values:
        return joined([])
    data = to_json(values)[1:-1]
    commas = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(","))
    start = np.concatenate([[0], commas + 1])
    return Texts(data, start, np.concatenate([commas, [len(data)]]) - start)


def object_texts(values: list[object]) -> Texts:
    """Texts, lists, objects and null as JSON."""
    return joined([json.dumps(value, sort_keys=True).encode() for value in values])


def joined(texts: Sequence[bytes]) -> Texts:
    """Concatenate byte strings."""
    size = np.fromiter(map(len, texts), np.int64, len(texts))
    return Texts(b"".join(texts), np.cumsum(size) - size, size)


def varint_texts(numbers: Int64) -> Texts:
    """Non-negative numbers as protobuf varints."""
    size = np.ones(len(numbers), np.int64)
    for shift in range(7, 63, 7):
        size += numbers >> shift > 0
    width = int(size.max(initial=1))
    digits = numbers[:, None] >> np.arange(0, 7 * width, 7) & 0x7F
    more = np.arange(width) < size[:, None] - 1
    data = (digits | np.where(more, 0x80, 0)).astype(np.uint8).tobytes()
    return Texts(data, np.arange(len(numbers)) * width, size)


def row_sizes(columns: Sequence[Column], count: int) -> Int64:
    """The number of bytes of each of `count` rows (int64, n)."""
    sizes = np.zeros(count, np.int64)
    for column in columns:
        for rows, before, _, size in column.groups:
            sizes[rows] += len(before) + size
    return sizes


def assemble(columns: Sequence[Column], sizes: Int64) -> Batch:
    """Concatenate the bytes of the columns for each row; `sizes`: bytes of each row."""
    end = np.cumsum(sizes)
    out = np.empty(int(sizes.sum()), np.uint8)
    at = end - sizes
    for column in columns:
        source = np.frombuffer(column.texts.data, np.uint8)
        for rows, before, start, size in column.groups:
            where = at[rows]
            put(out, where, before)
            if size:
                windows(out, size)[where + len(before)] = windows(source, size)[start]
            at[rows] = where + len(before) + size
    return Batch(out, end)


def put(out: Bytes, where: Int64, content: bytes) -> None:
    """Write the same bytes at many positions."""
    if content and len(where):
        windows(out, len(content))[where] = content


def windows(data: Bytes, size: int) -> Values:
    """The `size` bytes at each position, as an array of dtype S that shares memory with `data`."""
    count = max(0, len(data) - size + 1)
    return np.ndarray((count,), f"S{size}", data.data, strides=(1,))


def by_size(sizes: Int64) -> Iterator[tuple[int, Int64]]:
    """Each distinct size with its positions."""
    if len(sizes):
        order = sizes.argsort(kind="stable")
        ordered = sizes[order]
        edges = ((ordered[1:] != ordered[:-1]).nonzero()[0] + 1).tolist()
        for start, stop in zip([0, *edges], [*edges, len(sizes)], strict=True):
            yield int(ordered[start]), order[start:stop]
