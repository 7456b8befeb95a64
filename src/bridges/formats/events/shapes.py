"""Records that differ only in wall time, step and values, as columns.

All other bytes are compared with those of one record, and the CRC follows from the differing ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events.crc32c import ColumnEffects, UInt8, crc32c, mask_all
from bridges.formats.events.messages import Event, Origin
from bridges.formats.events.tensors import SIZES, Column, stored_dtype
from bridges.formats.events.tfrecord import FOOTER, HEADER, record_header
from bridges.stream.model import Float64, Int64

Mask = NDArray[np.bool_]
MIN_PAIRED_ROWS = 4096  # from here on, CRC tables of byte pairs are faster
_WORDS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Rows:
    """`count` records of `size` bytes, `stride` bytes apart, from an offset of a buffer on."""

    buffer: bytes | memoryview
    offset: int
    count: int
    stride: int
    size: int

    @classmethod
    def at(cls, data: bytes, where: Int64, size: int) -> Rows:
        """Records at these offsets, copied."""
        windows = np.ndarray(len(data) - size + 1, f"V{size}", data, 0, (1,))
        return cls(windows[where].data.cast("B"), 0, len(where), size, size)

    def column(self, at: int, dtype: str) -> Column:
        """The bytes at an offset of each record as numbers: an unaligned view."""
        return np.ndarray(self.count, dtype, self.buffer, self.offset + at, (self.stride,))

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


@dataclass(frozen=True)
class Field:
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
    keys: tuple[tuple[str, str, Origin], ...]

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

    @cached_property
    def _fields(self) -> tuple[Field, ...]:
        return tuple(part for part in (self.wall_time, self.step, *self.values) if part)

    @cached_property
    def _words(self) -> list[tuple[int, str, int]]:
        """The equal bytes as few integers: offset, dtype and value."""
        words, at = [], 0
        for part in (*sorted(self._fields, key=lambda part: part.at), Field(len(self.template), 0)):
            while at < part.at:
                size = next(size for size in _WORDS if size <= part.at - at)
                value = int.from_bytes(self.template[at : at + size], "little")
                words.append((at, f"<u{size}", value))
                at += size
            at = part.at + part.size
        return words

    @cached_property
    def _crc(self) -> np.uint32:
        return np.uint32(crc32c(self.template[HEADER:]))

    @cached_property
    def _effects(self) -> list[ColumnEffects]:
        return self._effects_by(pairs=False)

    @cached_property
    def _paired_effects(self) -> list[ColumnEffects]:
        return self._effects_by(pairs=True)

    def _effects_by(self, *, pairs: bool) -> list[ColumnEffects]:
        length = len(self.template) - HEADER
        return [
            ColumnEffects(part.at - HEADER, part.size, length, pairs=pairs) for part in self._fields
        ]

    def fits(self, record: bytes) -> bool:
        """Whether a record, whatever its CRC, has this shape."""
        if len(record) != self.size:
            return False
        return bool(self.matches(Rows(record, 0, 1, self.size, self.size))[0])

    def matches(self, rows: Rows) -> Mask:
        """Mask of the records (of this size, whatever their CRC) with this shape."""
        same = np.ones(rows.count, bool)
        for at, dtype, value in self._words:
            same &= rows.column(at, dtype) == value
        if self.step:
            for index in range(self.step.size):
                byte: UInt8 = rows.column(self.step.at + index, "u1").view(np.uint8)
                same &= (byte >= 0x80) if index < self.step.size - 1 else (byte < 0x80)
        return same

    def read(self, rows: Rows) -> Points:
        """The columns of records with this shape."""
        count = rows.count
        columns: list[Column] = []
        if self.wall_time:
            time = rows.column(self.wall_time.at, "<f8").astype(np.float64)
            columns.append(time)
        else:
            time = np.zeros(count)
        if self.step:
            varints = _varints(rows, self.step)
            columns.append(varints)
        values = [
            rows.column(part.at, stored_dtype(kind)).copy()
            for part, (_, kind, _) in zip(self.values, self.keys, strict=True)
        ]
        crc = np.full(count, self._crc)
        scratch = np.empty(count, np.uint32)
        is_many = count >= MIN_PAIRED_ROWS
        effects = self._paired_effects if is_many else self._effects
        for effect, column in zip(effects, (*columns, *values), strict=True):
            effect.add(crc, column, scratch)
        is_sound = mask_all(crc) == rows.column(self.size - FOOTER, "<u4")
        step = _numbers(varints, self.step.size) if self.step else np.zeros(count, np.int64)
        return Points(time, step, values, is_sound)


@lru_cache(maxsize=1024)  # many files have records with the same tags
def _shape(
    template: bytes,
    wall_time: Field | None,
    step: Field | None,
    values: tuple[Field, ...],
    keys: tuple[tuple[str, str, Origin], ...],
) -> Shape:
    return Shape(template, wall_time, step, values, keys)


def _varints(rows: Rows, part: Field) -> Column:
    """The bytes of varints as one row each (`V` dtype), contiguous."""
    return rows.column(part.at, f"V{part.size}").copy()


def _numbers(varints: Column, size: int) -> Int64:
    """The integers (int64, n) of varints of `size` bytes."""
    data = varints.view(np.uint8).reshape(-1, size)
    shifts = np.arange(size, dtype=np.uint64) * np.uint64(7)
    bits = (data & np.uint8(0x7F)).astype(np.uint64) << shifts
    return np.asarray(np.bitwise_or.reduce(bits, axis=1)).view(np.int64)
