"""Records that differ only in wall time, step and values, as columns.

All other bytes are compared with those of one record, and the CRC follows from the differing ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events.crc32c import (
    ColumnEffects,
    FieldEffects,
    UInt8,
    UInt32,
    crc32c_short,
    mask_all,
)
from bridges.formats.events.messages import Event
from bridges.formats.events.tensors import SIZES, Column, stored_dtype
from bridges.formats.events.tfrecord import FOOTER, HEADER, record_header
from bridges.stream.model import Float64, Int64

Mask = NDArray[np.bool_]
MIN_PAIRED_ROWS = 4096  # from here on, CRC tables of byte pairs are faster
MIN_COLUMN_ROWS, MAX_COLUMN_BYTES = 2048, 160  # otherwise records are compared row by row


@dataclass(frozen=True)
class Rows:
    """`count` records of `size` bytes, `stride` bytes apart, from an offset of a buffer on."""

    buffer: bytes | memoryview
    offset: int
    count: int
    stride: int
    size: int

    @classmethod
    def at(cls, data: bytes, where: Int64, size: int, stride: int = 0) -> Rows:
        """Records at these offsets; copied, unless all have the distance `stride`."""
        if stride:
            return cls(data, int(where[0]), len(where), stride, size)
        windows = np.ndarray(len(data) - size + 1, f"V{size}", data, 0, (1,))
        return cls(windows[where].data.cast("B"), 0, len(where), size, size)

    def column(self, at: int, dtype: str) -> Column:
        """The bytes at an offset of each record as numbers: an unaligned view."""
        return np.ndarray(self.count, dtype, self.buffer, self.offset + at, (self.stride,))

    def matrix(self) -> UInt8:
        """The bytes of the records (uint8, count x size): a view."""
        shape, strides = (self.count, self.size), (self.stride, 1)
        return np.ndarray(shape, np.uint8, self.buffer, self.offset, strides)

    def only(self, wanted: Mask) -> Rows:
        """Some of the records, copied."""
        rows = self.column(0, f"V{self.size}")[wanted]
        return Rows(rows.data.cast("B"), 0, len(rows), self.size, self.size)


class Points(NamedTuple):
    """The columns of records of one shape: wall time, step, one column per scalar, and whether the
    CRC of each record is right.
    """

    wall_time: Float64
    step: Int64
    values: list[Column]
    is_sound: Mask


class Field(NamedTuple):
    """Bytes that differ between the records of a shape: offset and size in the record."""

    at: int
    size: int


@dataclass(frozen=True)
class Shape:
    """Records with these bytes (without their CRC, and with zeros in the fields).

    `wall_time`, `step` are None where the records have none; `values`: the field of each scalar,
    `keys`: its tag, kind and origin.
    """

    template: bytes
    wall_time: Field | None
    step: Field | None
    values: tuple[Field, ...]
    keys: tuple[tuple[str, str, str], ...]

    @classmethod
    def of(cls, event: Event, record: bytes) -> Shape:
        """The shape of a record with only scalars."""
        time = Field(HEADER + event.wall_time, 8) if event.wall_time >= 0 else None
        step = Field(HEADER + event.step[0], event.step[1]) if event.step[0] >= 0 else None
        values = tuple(Field(HEADER + scalar.at, SIZES[scalar.kind]) for scalar in event.scalars)
        keys = tuple(scalar[:3] for scalar in event.scalars)
        header = record_header(len(record) - HEADER - FOOTER)  # that of the record may be damaged
        template = bytearray(header + record[HEADER:-FOOTER])
        for part in (time, step, *values):
            if part:
                template[part.at : part.at + part.size] = bytes(part.size)
        return _shape(bytes(template), time, step, values, keys)

    @property
    def size(self) -> int:
        """The bytes of a record."""
        return len(self.template) + FOOTER

    def read(self, rows: Rows) -> tuple[Mask | None, Points | None]:
        """Mask of the records with this shape, whatever their CRC, and their points.

        The mask is None if all have it, the points are None if no record has.
        """
        if rows.count < MIN_COLUMN_ROWS or self.size > MAX_COLUMN_BYTES:
            return self._read_rows(rows)
        return self._read_columns(rows)

    def _read_rows(self, rows: Rows) -> tuple[Mask | None, Points | None]:
        """As `read`, record by record: faster for few or wide records."""
        differing = rows.matrix() ^ self._record
        same = np.bitwise_or.reduce(differing & self._shared, axis=1) == 0
        count = np.count_nonzero(same)
        if not count:
            return same, None
        if count < rows.count:
            rows, differing = rows.only(same), differing[same]
        crc = self._field_effects.of(differing[:, HEADER:-FOOTER]) ^ self._record_crc
        points = self._points(rows, crc, self._columns(rows))
        return (None if count == len(same) else same), points

    def _read_columns(self, rows: Rows) -> tuple[Mask | None, Points | None]:
        """As `read`, column by column."""
        same = np.ones(rows.count, bool)
        for at, dtype, value in self._words:
            same &= rows.column(at, dtype) == value
        if self.step:
            same &= _ends(rows, self.step)
        count = np.count_nonzero(same)
        if not count:
            return same, None
        if count < rows.count:
            rows = rows.only(same)
        columns = self._columns(rows)
        crc, scratch = np.full(rows.count, self._crc), np.empty(rows.count, np.uint32)
        effects = self._pair_effects if rows.count >= MIN_PAIRED_ROWS else self._byte_effects
        for effect, column in zip(effects, columns, strict=True):
            effect.add(crc, column, scratch)
        return (None if count == len(same) else same), self._points(rows, crc, columns)

    def _columns(self, rows: Rows) -> list[Column]:
        """The contiguous columns of all fields: wall time, step (as words or varints), values."""
        columns: list[Column] = []
        if self.wall_time:
            columns.append(rows.column(self.wall_time.at, "<f8").copy())
        if self.step:
            columns.append(rows.column(self.step.at, _varint_dtype(self.step, self.size)).copy())
        for part, (_, kind, _) in zip(self.values, self.keys, strict=True):
            columns.append(rows.column(part.at, stored_dtype(kind)).copy())
        return columns

    def _points(self, rows: Rows, crc: UInt32, columns: list[Column]) -> Points:
        is_sound = mask_all(crc) == rows.column(self.size - FOOTER, "<u4")
        values = columns[len(columns) - len(self.values) :]
        time = columns[0].view(np.float64) if self.wall_time else np.zeros(rows.count)
        if self.step:
            step = _numbers(columns[1 if self.wall_time else 0], self.step.size)
        else:
            step = np.zeros(rows.count, np.int64)
        return Points(time, step, values, is_sound)

    @cached_property
    def _fields(self) -> tuple[Field, ...]:
        return tuple(part for part in (self.wall_time, self.step, *self.values) if part)

    @cached_property
    def _words(self) -> list[tuple[int, str, int]]:
        """The equal bytes as few integers, which may overlap: offset, dtype and value."""
        words, at = [], 0
        for part in (*sorted(self._fields), Field(len(self.template), 0)):
            if part.at > at:
                size = next(size for size in (8, 4, 2, 1) if size <= part.at - at)
                starts = [*range(at, part.at - size, size), part.at - size]
                words += [(start, f"<u{size}", self._word(start, size)) for start in starts]
            at = part.at + part.size
        return words

    def _word(self, at: int, size: int) -> int:
        return int.from_bytes(self.template[at : at + size], "little")

    @cached_property
    def _record(self) -> UInt8:
        """The template with the continuation bits of the step, and zeros as CRC."""
        record = bytearray(self.template + bytes(FOOTER))
        if self.step:
            record[self.step.at : self.step.at + self.step.size - 1] = b"\x80" * (
                self.step.size - 1
            )
        return np.frombuffer(bytes(record), np.uint8)

    @cached_property
    def _shared(self) -> UInt8:
        """Mask of the bits that all records share (uint8, one entry per byte)."""
        shared = np.full(self.size, 0xFF, np.uint8)
        shared[-FOOTER:] = 0
        for part in self._fields:
            shared[part.at : part.at + part.size] = 0x80 if part is self.step else 0
        return shared

    @cached_property
    def _crc(self) -> np.uint32:
        return np.uint32(crc32c_short(self.template[HEADER:]))

    @cached_property
    def _record_crc(self) -> np.uint32:
        return np.uint32(crc32c_short(self._record[HEADER:-FOOTER].tobytes()))

    @cached_property
    def _field_effects(self) -> FieldEffects:
        fields = [(part.at - HEADER, part.size) for part in self._fields]
        return FieldEffects(fields, len(self.template) - HEADER)

    @cached_property
    def _byte_effects(self) -> list[ColumnEffects]:
        return self._column_effects(pairs=False)

    @cached_property
    def _pair_effects(self) -> list[ColumnEffects]:
        return self._column_effects(pairs=True)

    def _column_effects(self, *, pairs: bool) -> list[ColumnEffects]:
        length = len(self.template) - HEADER
        return [
            ColumnEffects(part.at - HEADER, part.size, length, pairs=pairs) for part in self._fields
        ]


@lru_cache(maxsize=1024)  # many files have records with the same tags
def _shape(
    template: bytes,
    wall_time: Field | None,
    step: Field | None,
    values: tuple[Field, ...],
    keys: tuple[tuple[str, str, str], ...],
) -> Shape:
    return Shape(template, wall_time, step, values, keys)


def _varint_dtype(part: Field, size: int) -> str:
    """The dtype of varints in records of `size` bytes: a word, or the bytes of long ones."""
    width = 4 if part.size <= 4 else 8
    return f"<u{width}" if part.size <= 8 and part.at + width <= size else f"V{part.size}"


def _ends(rows: Rows, part: Field) -> Mask:
    """Mask of the records whose varint has the size of the field."""
    dtype = _varint_dtype(part, rows.size)
    if dtype.startswith("<u"):
        words: NDArray[np.uint64] = rows.column(part.at, dtype).view(np.dtype(dtype))
        bits = sum(0x80 << 8 * index for index in range(part.size))
        return np.asarray((words & words.dtype.type(bits)) == bits - (0x80 << 8 * part.size - 8))
    same = np.ones(rows.count, bool)
    for index in range(part.size):
        byte: UInt8 = rows.column(part.at + index, "u1").view(np.uint8)
        same &= (byte >= 0x80) if index < part.size - 1 else (byte < 0x80)
    return same


def _numbers(varints: Column, size: int) -> Int64:
    """The integers (int64, n) of varints of `size` bytes."""
    if varints.dtype.kind == "u":
        words: NDArray[np.uint64] = varints.view(varints.dtype)
        kind = words.dtype.type
        bits = words & kind(0x7F)
        for index in range(1, size):
            bits |= (words >> kind(index)) & kind(0x7F << 7 * index)
        return bits.astype(np.int64)
    data = varints.view(np.uint8).reshape(-1, size)
    shifts = np.arange(size, dtype=np.uint64) * np.uint64(7)
    numbers = (data & np.uint8(0x7F)).astype(np.uint64) << shifts
    return np.asarray(np.bitwise_or.reduce(numbers, axis=1)).view(np.int64)
