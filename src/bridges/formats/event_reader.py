"""Event files back into columns, every length and CRC checked.

The reader knows nothing of what was written: it takes the first record of each length apart as
protobuf, and decodes as columns all records that differ from it only in wall time, step and values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import VerifyError
from bridges.formats.crc32c import UInt8, UInt32, add_bytes, crc32c, mask, mask_all
from bridges.stream.model import Float64, Int64

_LENGTH = struct.Struct("<Q")
_HEADER, _FOOTER = 12, 4
BLOCK = 8192
_REMEDY = "Delete its directory and export the run again."
FEW = 32  # records of one shape below which taking each apart is faster


@dataclass
class ScalarPart:
    """Some points of one tag: the offsets of their records in the file, step, value, wall time."""

    offset: Int64
    step: Int64
    value: NDArray[np.float32]
    wall_time: Float64


@dataclass
class EventFile:
    """What an event file holds: points by tag in file order, texts, and its first wall time."""

    scalars: dict[str, list[ScalarPart]] = field(default_factory=dict)
    texts: list[tuple[int, str, int, str]] = field(default_factory=list)  # offset, tag, step, text
    start: float | None = None

    def add(self, offset: Int64, event: _Event, step: Int64, time: Float64, values: Any) -> None:
        """Add the points of records of one shape; `values` has one column a scalar."""
        for index, (tag, _) in enumerate(event.scalars):
            part = ScalarPart(offset, step, values[index], time)
            self.scalars.setdefault(tag, []).append(part)


@dataclass
class _Event:
    """One record taken apart: where its parts lie in the data, and what they are."""

    wall_time: int = -1
    step: tuple[int, int] = (-1, -1)
    scalars: list[tuple[str, int]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    file_version: str | None = None

    def is_columnar(self) -> bool:
        """Whether records like this one can be read as columns."""
        return bool(self.scalars) and not self.texts and self.wall_time >= 0 and self.step[0] >= 0


def read_event_file(path: str) -> EventFile:
    """The whole file. Raises VerifyError for anything that is not a sound event file."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise VerifyError(f"{path}: cannot be read back: {error.strerror}") from error
    return decode(path, data)


def first_texts(path: str, records: int = 2) -> list[tuple[str, str]]:
    """The texts of the first few records, as (tag, text): cheap, whatever the file's size.

    Raises OSError, and VerifyError where one of these records is damaged.
    """
    offset = 0
    texts: list[tuple[str, str]] = []
    with open(path, "rb") as file:
        for _ in range(records):
            header = file.read(_HEADER)
            if not header:
                break
            if len(header) < _HEADER or not _crc_fits(header[:8], header[8:]):
                raise _damaged(path, offset, "the CRC of its length is wrong")
            data = file.read(_LENGTH.unpack_from(header)[0])
            if not _crc_fits(data, file.read(_FOOTER)):
                raise _damaged(path, offset, "the CRC of its data is wrong")
            texts += _take_apart(data).texts
            offset = file.tell()
    return texts


def _crc_fits(data: bytes, stored: bytes) -> bool:
    return mask(crc32c(data)) == int.from_bytes(stored, "little")


def decode(path: str, data: bytes, *, whole: bool = True) -> EventFile:
    """What the bytes of an event file hold. One that is still written (`whole` is False) may end
    inside of a record. Raises VerifyError for what is damaged.
    """
    offsets, lengths = _record_bounds(path, data, whole)
    out = EventFile()
    raw = np.frombuffer(data, np.uint8)
    for length in sorted(set(lengths.tolist())):
        where = offsets[lengths == length]
        _check_header(path, data, length, where, raw)
        _decode_equal_lengths(path, data, length, where, out)
    return out


def _record_bounds(path: str, data: bytes, whole: bool) -> tuple[Int64, Int64]:
    """Offset and data length of each record."""
    unpack, offset, size = _LENGTH.unpack_from, 0, len(data)
    offsets, lengths = [], []
    while offset < size:
        if offset + _HEADER > size and not whole:
            break
        if offset + _HEADER > size:
            raise _damaged(path, offset, "the file ends inside of a record")
        length = unpack(data, offset)[0]
        offsets.append(offset)
        lengths.append(length)
        offset += length + _HEADER + _FOOTER
    if offset > size and not whole:
        offsets.pop(), lengths.pop()
    elif offset != size and whole:
        raise _damaged(path, offsets[-1], "the file ends inside of a record")
    return np.array(offsets, np.int64), np.array(lengths, np.int64)


def _check_header(path: str, data: bytes, length: int, where: Int64, raw: UInt8) -> None:
    """Equal lengths have equal headers, so one CRC serves all."""
    crc = mask(crc32c(_LENGTH.pack(length))).to_bytes(4, "little")
    stored = raw[where[:, None] + np.arange(8, _HEADER)]
    wrong = (stored != np.frombuffer(crc, np.uint8)).any(axis=1)
    if wrong.any():
        raise _damaged(path, int(where[wrong][0]), "the CRC of its length is wrong")


def _decode_equal_lengths(
    path: str, data: bytes, length: int, where: Int64, out: EventFile
) -> None:
    pending, plainly = where, 0
    while len(pending):
        first = int(pending[0])
        event = _take_apart(data[first + _HEADER : first + _HEADER + length])
        if plainly or len(pending) < FEW or not event.is_columnar():
            _decode_one(path, data, length, first, event, out)
            pending, plainly = pending[1:], max(plainly - 1, 0)
            continue
        rest = _decode_columns(path, data, length, pending, event, out)
        if len(pending) - len(rest) < FEW:  # many shapes: looking for like ones does not pay
            plainly = FEW
        pending = rest


def _decode_one(
    path: str, data: bytes, length: int, offset: int, event: _Event, out: EventFile
) -> None:
    body = data[offset + _HEADER : offset + _HEADER + length]
    stored = data[offset + _HEADER + length : offset + _HEADER + length + _FOOTER]
    if not _crc_fits(body, stored):
        raise _damaged(path, offset, "the CRC of its data is wrong")
    time = struct.unpack_from("<d", body, event.wall_time)[0] if event.wall_time >= 0 else 0.0
    step = _varint(body, event.step[0])[0] if event.step[0] >= 0 else 0
    step -= (step >> 63) << 64
    if event.file_version is not None and out.start is None:
        out.start = time
    out.texts += [(offset, tag, step, text) for tag, text in event.texts]
    values = [np.frombuffer(body, "<f4", 1, at) for _, at in event.scalars]
    out.add(np.array([offset]), event, np.array([step], np.int64), np.array([time]), values)


def _decode_columns(
    path: str, data: bytes, length: int, where: Int64, event: _Event, out: EventFile
) -> Int64:
    """Decode the records like the first of `where`; the offsets of the others are returned."""
    shape = _Shape.of(event, data[where[0] + _HEADER : where[0] + _HEADER + length])
    others = []
    for start in range(0, len(where), BLOCK):
        block = where[start : start + BLOCK]
        records = _matrix(data, block, length)
        alike = shape.matches(records)
        if not alike.all():
            others.append(block[~alike])
            block, records = block[alike], records[alike]
        wrong = shape.crc(records) != np.ascontiguousarray(records[:, -4:]).view("<u4")[:, 0]
        if wrong.any():
            raise _damaged(path, int(block[wrong][0]), "the CRC of its data is wrong")
        out.add(block, event, *shape.columns(records))
    return np.concatenate(others) if others else where[:0]


def _matrix(data: bytes, where: Int64, length: int) -> UInt8:
    """Data and CRC of the records at these offsets (uint8, n x (length + 4))."""
    size = length + _HEADER + _FOOTER
    breaks = np.flatnonzero(np.diff(where) != size) + 1
    starts = where[np.concatenate([[0], breaks])].tolist()
    ends = (where[np.concatenate([breaks - 1, [len(where) - 1]])] + size).tolist()
    view = memoryview(data)
    pieces = [view[start:end] for start, end in zip(starts, ends, strict=True)]
    joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return np.frombuffer(joined, np.uint8).reshape(len(where), size)[:, _HEADER:]


@dataclass(frozen=True)
class _Shape:
    """Records of one length that differ only in the bytes of wall time, step and values."""

    event: _Event
    template: UInt8
    fields: tuple[tuple[int, int], ...]  # offset and size of what differs, in order
    zero_crc: np.uint32

    @classmethod
    def of(cls, event: _Event, body: bytes) -> _Shape:
        step_at, step_size = event.step
        fields = [(event.wall_time, 8), (step_at, step_size), *((at, 4) for _, at in event.scalars)]
        zeroed = bytearray(body)
        for at, size in fields:
            zeroed[at : at + size] = bytes(size)
        template = np.frombuffer(body, np.uint8)
        return cls(event, template, tuple(sorted(fields)), np.uint32(crc32c(bytes(zeroed))))

    def _constant_parts(self) -> Iterator[slice]:
        end = 0
        for at, size in self.fields:
            yield slice(end, at)
            end = at + size
        yield slice(end, len(self.template))

    def matches(self, records: UInt8) -> NDArray[np.bool_]:
        """Which records (bool, n) have the template's constant bytes and step length."""
        alike = np.ones(len(records), bool)
        for part in self._constant_parts():
            alike &= (records[:, part] == self.template[part]).all(axis=1)
        at, size = self.event.step
        step = slice(at, at + size)
        alike &= (records[:, step] >> 7 == self.template[step] >> 7).all(axis=1)
        return alike

    def crc(self, records: UInt8) -> UInt32:
        """The masked CRC (uint32, n) that each record should have."""
        crc = np.full(len(records), self.zero_crc, np.uint32)
        for at, size in self.fields:
            add_bytes(crc, records[:, at : at + size], len(self.template) - 1 - at)
        return mask_all(crc)

    def columns(self, records: UInt8) -> tuple[Int64, Float64, list[NDArray[np.float32]]]:
        """Step, wall time and the values of each scalar."""
        at, size = self.event.step
        step = np.zeros(len(records), np.uint64)
        for index in range(size):
            bits = (records[:, at + index] & np.uint8(0x7F)).astype(np.uint64)
            step |= bits << np.uint64(7 * index)
        wall_time = _column(records, self.event.wall_time, "<f8")
        values = [_column(records, offset, "<f4") for _, offset in self.event.scalars]
        return step.view(np.int64), wall_time, values


def _column(records: UInt8, offset: int, dtype: str) -> NDArray[Any]:
    width = np.dtype(dtype).itemsize
    return np.ascontiguousarray(records[:, offset : offset + width]).view(dtype)[:, 0]


def _damaged(path: str, offset: int, why: str) -> VerifyError:
    return VerifyError(f"{path}: the record at byte {offset} is damaged: {why}. {_REMEDY}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned number at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, offset and end of each field of a message (a varint's bytes, or the payload)."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            stop = _varint(data, at)[1]
        elif wire == 2:
            size, at = _varint(data, at)
            stop = at + size
        else:
            stop = at + (8 if wire == 1 else 4)
        if stop > end:
            raise IndexError
        yield number, at, stop
        at = stop


def _take_apart(data: bytes) -> _Event:
    """An event as protobuf: unknown fields are passed over, as every reader does."""
    event = _Event()
    try:
        for number, at, end in _fields(data, 0, len(data)):
            if number == 1:
                event.wall_time = at
            elif number == 2:
                event.step = (at, end - at)
            elif number == 3:
                event.file_version = data[at:end].decode()
            elif number == 5:
                _take_summary(event, data, at, end)
    except (IndexError, UnicodeDecodeError):
        return _Event()  # its CRC is wrong as well, which is what will be told
    return event


def _take_summary(event: _Event, data: bytes, start: int, stop: int) -> None:
    for number, at, end in _fields(data, start, stop):
        if number != 1:
            continue
        parts = {field: (a, e) for field, a, e in _fields(data, at, end)}
        tag_at, tag_end = parts.get(1, (0, 0))
        tag = data[tag_at:tag_end].decode()
        if 2 in parts:
            event.scalars.append((tag, parts[2][0]))
        elif 8 in parts:
            strings = [data[a:e] for field, a, e in _fields(data, *parts[8]) if field == 8]
            event.texts += [(tag, text.decode()) for text in strings]
