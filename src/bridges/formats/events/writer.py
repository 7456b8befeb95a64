"""Encodes columns as event records: one event per row, with its values as float32.

Rows with the same tags and equally long step varints give records of equal length. A block of them
is a byte matrix: copies of a template, into which wall times, steps, values and CRCs are written
column by column. Few rows are encoded one by one, which is faster. Long blocks reuse one matrix and
compute CRCs from the columns. All three methods give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events import proto
from bridges.formats.events.crc32c import ColumnEffects, FieldEffects, UInt8, crc32c, mask_all
from bridges.formats.events.tfrecord import FOOTER, HEADER
from bridges.formats.protobuf import double, sized, varint
from bridges.stream.model import Float64, Int64

Float32 = NDArray[np.float32]
BLOCK_ROWS = 8192  # rows of one byte matrix: about 1 MB, which fits the cache
MIN_ROWS = 4  # fewer rows are encoded one by one
MIN_REUSED_ROWS = 1024  # from here on, a reused matrix is faster
WORD_BYTES = 8  # varints up to this size are computed as one integer
MIN_PAIRED_ROWS = 32_768  # from here on, tables of byte pairs are faster
MAX_PAIRED_COLUMNS = 12  # their tables, 512 KiB each, should fit into the cache
TAG_BYTES_PER_ROW = 64  # with longer tags, rows are encoded one by one: tables grow with the record


@dataclass(frozen=True)
class ScalarColumn:
    """The values (float32, n) of one tag, and their rows (int64, n, increasing)."""

    tag: str
    rows: Int64
    values: Float32


def as_float32(values: NDArray[np.generic]) -> Float32:
    """The nearest float32 of each number; overflow gives infinity."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype(np.float64, copy=False).astype(np.float32)


def scalar_records(
    columns: Sequence[ScalarColumn], step: Int64, wall_time: Float64
) -> Iterator[bytes | UInt8]:
    """The records of all rows in row order, in blocks.

    `step` (int64) and `wall_time` (float64, seconds) have one entry per row of the log; a row
    without scalars gives no record. A block is valid until the next one, which reuses its memory.
    """
    groups = _groups(columns, len(step)) if len(step) else []
    for start in range(0, len(step), BLOCK_ROWS):
        parts = [group.block(step, wall_time, start, start + BLOCK_ROWS) for group in groups]
        yield from _in_row_order([part for part in parts if part is not None])


@dataclass
class _Group:
    """The rows (int64, n) with exactly these columns."""

    rows: Int64
    columns: tuple[ScalarColumn, ...]
    matrix: _Matrix | None = None  # for many rows

    def block(self, step: Int64, wall_time: Float64, start: int, stop: int) -> _Block | None:
        """The encoded records of the group's rows in [start, stop)."""
        low, high = np.searchsorted(self.rows, (start, stop))
        if low == high:
            return None
        rows = self.rows[low:high]
        where = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == high - low - 1 else rows
        values = [_values_at(column, rows) for column in self.columns]
        return _Block(rows, *self._encode(step[where], wall_time[where], values))

    def _encode(
        self, step: Int64, wall_time: Float64, values: Sequence[Float32]
    ) -> tuple[UInt8, Int64]:
        """As `encode`; many rows of one step size share a matrix that the next block overwrites."""
        tags = tuple(column.tag for column in self.columns)
        if len(step) < MIN_REUSED_ROWS:
            return encode(tags, step, wall_time, values)
        sizes = varint_sizes(step)
        size = int(sizes[0])
        if size > WORD_BYTES or (sizes != size).any():
            return encode(tags, step, wall_time, values)
        records = self._matrix(_template(tags, size), len(step)).fill(step, wall_time, values)
        return records.ravel(), np.full(len(records), records.shape[1], np.int64)

    def _matrix(self, template: _Template, rows: int) -> _Matrix:
        """The current matrix, or a new one if the template differs or it is too short."""
        matrix = self.matrix
        if matrix is None or matrix.template is not template or len(matrix.data) < rows:
            pairs = len(self.rows) >= MIN_PAIRED_ROWS and len(self.columns) <= MAX_PAIRED_COLUMNS
            matrix = self.matrix = _Matrix.of(template, min(2 * rows, BLOCK_ROWS), pairs=pairs)
        return matrix


@dataclass(frozen=True)
class _Block:
    """Records of rows: their concatenated bytes, and the length of each (int64, n)."""

    rows: Int64
    data: UInt8
    lengths: Int64


def _values_at(column: ScalarColumn, rows: Int64) -> Float32:
    if len(column.rows) == len(rows):  # a group's rows are a subset of each column's
        return column.values
    first = int(np.searchsorted(column.rows, rows[0]))
    if len(column.rows) >= first + len(rows) and column.rows[first + len(rows) - 1] == rows[-1]:
        return column.values[first : first + len(rows)]
    return column.values[np.searchsorted(column.rows, rows)]


def _groups(columns: Sequence[ScalarColumn], rows: int) -> list[_Group]:
    """Group the rows by their set of columns, in time linear in the points."""
    if columns and all(len(column.rows) == rows for column in columns):
        return [_Group(np.arange(rows), tuple(columns))]
    group = np.zeros(rows, np.int64)
    members: list[tuple[int, ...]] = [()]
    for index, column in enumerate(columns):
        if len(column.rows) == rows:
            members = [(*member, index) for member in members]
            continue
        old, which = np.unique(group[column.rows], return_inverse=True)
        fresh = len(members) + np.arange(len(old))
        members += [(*members[number], index) for number in old.tolist()]
        group[column.rows] = fresh[which]
    order = np.argsort(group, kind="stable")
    present, starts = np.unique(group[order], return_index=True)
    parts = np.split(order, starts[1:])
    return [
        _Group(part, tuple(columns[i] for i in members[number]))
        for number, part in zip(present.tolist(), parts, strict=True)
        if members[number]
    ]


def _in_row_order(blocks: list[_Block]) -> Iterator[bytes | UInt8]:
    """The records of all blocks in row order."""
    if len(blocks) <= 1:
        yield from (block.data for block in blocks)
        return
    order = np.argsort(np.concatenate([block.rows for block in blocks]), kind="stable")
    lengths = np.concatenate([block.lengths for block in blocks])[order]
    owner = np.repeat(np.arange(len(blocks)), [len(block.rows) for block in blocks])[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(owner)) + 1])
    sizes = np.add.reduceat(lengths, starts)
    views = [block.data.data for block in blocks]
    taken = [0] * len(blocks)
    pieces = []
    for index, size in zip(owner[starts].tolist(), sizes.tolist(), strict=True):
        pieces.append(views[index][taken[index] : taken[index] + size])
        taken[index] += size
    yield b"".join(pieces)


def encode(
    tags: tuple[str, ...], step: Int64, wall_time: Float64, values: Sequence[Float32]
) -> tuple[UInt8, Int64]:
    """Records of rows with the same tags: their bytes (uint8) and lengths (int64, n)."""
    if len(step) < max(MIN_ROWS, sum(map(len, tags)) // TAG_BYTES_PER_ROW):
        return encode_plain(tags, step, wall_time, values)
    return encode_fast(tags, step, wall_time, values)


def encode_plain(
    tags: tuple[str, ...], step: Int64, wall_time: Float64, values: Sequence[Float32]
) -> tuple[UInt8, Int64]:
    """As `encode`, one row at a time."""
    packed = [column.astype("<f4").tobytes() for column in values]
    records = []
    for row, (number, time) in enumerate(zip(step.tolist(), wall_time.tolist(), strict=True)):
        scalars = [
            proto.scalar_value(tag, column[4 * row : 4 * row + 4])
            for tag, column in zip(tags, packed, strict=True)
        ]
        records.append(proto.summary_event(time, number, scalars))
    framed = proto.frames(records)
    data = np.frombuffer(b"".join(framed), np.uint8)
    return data, np.array([len(record) for record in framed], np.int64)


def encode_fast(
    tags: tuple[str, ...], step: Int64, wall_time: Float64, values: Sequence[Float32]
) -> tuple[UInt8, Int64]:
    """As `encode`, with one matrix per run of rows with equally long step varints."""
    sizes = varint_sizes(step)
    changes = (sizes[1:] != sizes[:-1]).nonzero()[0] + 1
    bounds = [0, *changes.tolist(), len(step)]
    parts = []
    for low, high in pairwise(bounds):
        template = _template(tags, int(sizes[low]))
        columns = [column[low:high] for column in values]
        parts.append(template.fill(step[low:high], wall_time[low:high], columns))
    lengths = np.repeat([part.shape[1] for part in parts], [len(part) for part in parts])
    data = parts[0].ravel() if len(parts) == 1 else np.concatenate([part.ravel() for part in parts])
    return data, lengths


def varint_sizes(step: Int64) -> NDArray[np.uint8]:
    """The varint length of each step in bytes (uint8, n)."""
    sizes = np.ones(len(step), np.uint8)
    unsigned = step.view(np.uint64)
    longest = len(varint(int(unsigned.max(initial=0))))
    for index in range(1, longest):
        sizes += unsigned >= np.uint64(1 << 7 * index)
    return sizes


@dataclass(frozen=True)
class _Template:
    """A record with zeros for wall time, step, values and CRC (its `fields`)."""

    record: UInt8
    crc: np.uint32
    step_size: int
    offsets: tuple[tuple[int, int], ...]  # offset in the data and size of each field except the CRC
    fields: np.dtype[np.void]
    effects: FieldEffects

    def fill(self, step: Int64, wall_time: Float64, values: Sequence[Float32]) -> UInt8:
        """The records of n rows (uint8, n x record length)."""
        out = np.empty((len(step), len(self.record)), np.uint8)
        out[:] = self.record
        rows = out.view(self.fields)[:, 0]
        columns = (wall_time, self._step_bytes(step), *values)
        for name, column in zip(self.fields.names or (), columns, strict=False):
            rows[name] = column
        effects = self.effects.of(out[:, HEADER:-FOOTER])
        rows["crc"] = mask_all(effects ^ self.crc)
        return out

    def _step_bytes(self, step: Int64) -> UInt8:
        """The varints of the steps (uint8, n x size)."""
        shifts = np.arange(self.step_size, dtype=np.uint64) * np.uint64(7)
        out = (step.view(np.uint64)[:, None] >> shifts).astype(np.uint8) & np.uint8(0x7F)
        out[:, :-1] |= np.uint8(0x80)
        return out


@dataclass(frozen=True)
class _Matrix:
    """A reused matrix of many records of a template (uint8, n x record length)."""

    template: _Template
    data: UInt8
    scratch: NDArray[np.uint32]
    effects: list[ColumnEffects]  # of wall time, step and each value

    @classmethod
    def of(cls, template: _Template, rows: int, *, pairs: bool) -> _Matrix:
        """A matrix for up to `rows` rows, with the tables for its CRCs."""
        data = np.empty((rows, len(template.record)), np.uint8)
        data[:] = template.record
        length = len(template.record) - HEADER - FOOTER
        effects = [ColumnEffects(at, size, length, pairs=pairs) for at, size in template.offsets]
        return cls(template, data, np.empty(rows, np.uint32), effects)

    def fill(self, step: Int64, wall_time: Float64, values: Sequence[Float32]) -> UInt8:
        """The records of n rows (uint8, n x record length), valid until the next call."""
        out, scratch = self.data[: len(step)], self.scratch[: len(step)]
        rows = out.view(self.template.fields)[:, 0]
        words = step_words(step, self.template.step_size)
        crc = np.full(len(step), self.template.crc, np.uint32)
        numbers = [np.ascontiguousarray(column) for column in (wall_time, words, *values)]
        for effects, column in zip(self.effects, numbers, strict=True):
            effects.add(crc, column, scratch)
        for name, column in zip(self.template.fields.names or (), numbers, strict=False):
            if name != "step":
                rows[name] = column
        at, size = self.template.offsets[1]
        for index, byte in enumerate(words.view(np.uint8).reshape(len(step), -1).T[:size]):
            out[:, HEADER + at + index] = byte
        rows["crc"] = mask_all(crc)
        return out


def step_words(step: Int64, size: int) -> NDArray[np.unsignedinteger[Any]]:
    """Varints of `size` bytes (at most 8) as the low bytes of a word (uint32 or uint64, n)."""
    kind: type[np.unsignedinteger[Any]] = np.uint32 if size <= 4 else np.uint64
    numbers: NDArray[np.unsignedinteger[Any]] = step.astype(kind)
    words = np.full(len(step), sum(0x80 << 8 * index for index in range(size - 1)), kind)
    for index in range(size):
        words |= (numbers & kind(0x7F << 7 * index)) << kind(index)
    return words


@lru_cache(maxsize=4096)
def _template(tags: tuple[str, ...], step_size: int) -> _Template:
    zero = bytes(4)
    scalars = [sized(1, proto.scalar_value(tag, zero)) for tag in tags]
    head = double(1, 0.0) + b"\x10"
    data = head + bytes(step_size) + sized(5, b"".join(scalars))
    first = len(data) - sum(map(len, scalars))
    ends = np.cumsum([first, *map(len, scalars)])[1:].tolist()
    fields = [(1, 8), (len(head), step_size), *((end - 4, 4) for end in ends)]
    record = proto.frame(data)
    return _Template(
        record=np.frombuffer(record, np.uint8),
        crc=np.uint32(crc32c(data)),
        step_size=step_size,
        offsets=tuple(fields),
        fields=_record_dtype(fields, len(record)),
        effects=FieldEffects(fields, len(data)),
    )


def _record_dtype(fields: Sequence[tuple[int, int]], size: int) -> np.dtype[np.void]:
    """The dtype of records of `size` bytes: wall_time, step (uint8, a varint), value0, …, crc.

    `fields`: offset and size of wall time, step and each value in the data. Fields are unaligned.
    """
    values = len(fields) - 2
    return np.dtype(
        {
            "names": ["wall_time", "step", *(f"value{n}" for n in range(values)), "crc"],
            "formats": ["<f8", (np.uint8, (fields[1][1],)), *["<f4"] * values, "<u4"],
            "offsets": [*(HEADER + at for at, _ in fields), size - FOOTER],
            "itemsize": size,
        }
    )
