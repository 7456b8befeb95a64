"""Reads event files into columns and checks every length and CRC.

The reader makes no assumption about the writer. It parses the first record of each length as
protobuf, and decodes all records as columns that differ from it only in wall time, step and values.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bridges.errors import VerifyError
from bridges.formats.events.crc32c import FieldEffects, UInt8, mask_all, unmask
from bridges.formats.events.messages import Event, parse_event
from bridges.formats.events.tfrecord import (
    FOOTER,
    HEADER,
    RECORDS_PER_CHECK,
    check_records,
    crc_fits,
    damaged,
    offsets_by_length,
    record_dtype,
    record_header,
)
from bridges.formats.protobuf import read_varint
from bridges.stream.model import Float64, Int64, Values

BLOCK_RECORDS, BLOCK_BYTES = 8192, 1 << 22  # limits of a block that is decoded at once
MIN_COLUMNAR_RECORDS = 4  # of one length; parsing fewer one by one is faster
BYTES_PER_PEER = 64  # long records need one record of their length for so many bytes
SINGLES_AFTER_MISS = 32  # records parsed one by one after a shape had few; doubles each time
PARTS_PER_MERGE, MAX_MERGED_POINTS = 8, 1024  # small parts of a tag are merged to save memory


@dataclass(slots=True)
class ScalarPart:
    """Points of one tag: offsets of their records in the file, step, value, wall time (seconds).

    Values and wall times are views of the file's bytes, which they keep in memory.
    """

    offset: Int64
    step: Int64
    value: NDArray[np.float32]
    wall_time: Float64


@dataclass
class EventFile:
    """The content of an event file: points by tag in file order, texts, and first wall time."""

    scalars: dict[str, list[ScalarPart]] = field(default_factory=dict)
    texts: list[tuple[int, str, int, str]] = field(default_factory=list)  # offset, tag, step, text
    start: float | None = None

    @property
    def parts(self) -> Iterator[ScalarPart]:
        """The points of all tags."""
        return (part for parts in self.scalars.values() for part in parts)

    def add(
        self, offset: Int64, event: Event, step: Int64, time: Float64, values: Sequence[Values]
    ) -> None:
        """Add the points of records of one shape; `values` has one column per scalar."""
        for index, (tag, _) in enumerate(event.scalars):
            parts = self.scalars.setdefault(tag, [])
            parts.append(ScalarPart(offset, step, values[index], time))
            if len(parts) % PARTS_PER_MERGE == 0:
                _merge_small(parts)


def _merge_small(parts: list[ScalarPart]) -> None:
    """Merge the last parts if they are small."""
    last = parts[-PARTS_PER_MERGE:]
    if sum(len(part.step) for part in last) < MAX_MERGED_POINTS:
        columns = (
            [getattr(part, name) for part in last]
            for name in ("offset", "step", "value", "wall_time")
        )
        parts[-PARTS_PER_MERGE:] = [ScalarPart(*map(np.concatenate, columns))]


def read_event_file(path: str) -> EventFile:
    """Read a complete event file. Raises VerifyError if it is unreadable or damaged."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        return decode(path, data)
    except OSError as error:
        raise VerifyError(f"{path}: cannot be read back: {error.strerror}") from error
    except VerifyError as error:
        message = f"{error} Delete its directory and export the run again."
        raise VerifyError(message) from None


def first_texts(path: str, records: int = 2) -> list[tuple[str, str]]:
    """The texts of the first records, as (tag, text); fast for a file of any size.

    Raises OSError, and VerifyError if one of these records is damaged.
    """
    offset = 0
    texts: list[tuple[str, str]] = []
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(records):
            header = file.read(HEADER)
            if not header:
                break
            length = int.from_bytes(header[:8], "little")
            if header != record_header(length):
                raise damaged(path, offset, "the CRC of its length is wrong")
            data = file.read(min(length, size))
            if not crc_fits(data, file.read(FOOTER)):
                raise damaged(path, offset, "the CRC of its data is wrong")
            texts += parse_event(data).texts
            offset = file.tell()
    return texts


def decode(
    path: str, data: bytes, *, complete: bool = True, max_tags: int | None = None
) -> EventFile:
    """The content of an event file. Raises VerifyError if damaged, or for more than `max_tags`.

    A file that is still being written (`complete` is False) may end inside a record, or with zero
    bytes after a power cut.
    """
    if not complete and data.endswith(bytes(HEADER)):
        data = data.rstrip(b"\0")
    out, by_length = EventFile(), offsets_by_length(path, data, complete)
    check_records(path, data, [(int(where[0]), length) for length, where in by_length.items()])
    for length, where in by_length.items():
        _decode_equal_lengths(path, data, length, where, out, max_tags)
    return out


def _decode_equal_lengths(
    path: str, data: bytes, length: int, where: Int64, out: EventFile, max_tags: int | None
) -> None:
    """Decode the records of one length; the CRCs of the first record are already checked."""
    pending, checked, ahead, plainly, many = where, 1, 1, 0, SINGLES_AFTER_MISS
    while len(pending):
        offset = int(pending[0])
        if not checked:
            some = pending[: min(max(plainly, ahead), RECORDS_PER_CHECK)].tolist()
            check_records(path, data, [(each, length) for each in some])
            checked = len(some)
        event = parse_event(data[offset + HEADER : offset + HEADER + length])
        if max_tags is not None and len(event.scalars) + len(out.scalars) > max_tags:
            raise VerifyError(f"{path}: contains more than {max_tags:,} tags")
        ahead = 1 if event.is_columnar() else RECORDS_PER_CHECK
        if (
            plainly
            or len(pending) < max(MIN_COLUMNAR_RECORDS, length // BYTES_PER_PEER)
            or ahead > 1
        ):
            _decode_one(data, length, offset, event, out)
            pending, checked, plainly = pending[1:], checked - 1, max(plainly - 1, 0)
            continue
        rest = _decode_columns(path, data, length, pending, event, out)
        if len(pending) - len(rest) < SINGLES_AFTER_MISS:  # many shapes: columns are slower
            plainly, many = many, 2 * many
        pending, checked = rest, 0


def _decode_one(data: bytes, length: int, offset: int, event: Event, out: EventFile) -> None:
    body = data[offset + HEADER : offset + HEADER + length]
    time = struct.unpack_from("<d", body, event.wall_time)[0] if event.wall_time >= 0 else 0.0
    step = read_varint(body, event.step[0])[0] if event.step[0] >= 0 else 0
    step = (step + (1 << 63)) % (1 << 64) - (1 << 63)
    if event.file_version is not None and out.start is None:
        out.start = time
    out.texts += [(offset, tag, step, text) for tag, text in event.texts]
    values = [np.frombuffer(body, "<f4", 1, at) for _, at in event.scalars]
    out.add(np.array([offset]), event, np.array([step], np.int64), np.array([time]), values)


def _decode_columns(
    path: str, data: bytes, length: int, where: Int64, event: Event, out: EventFile
) -> Int64:
    """Decode the records with the shape of the first; return the offsets of the other records."""
    first, size = int(where[0]), HEADER + length + FOOTER
    shape = _Shape.of(event, data[first : first + size])
    others = []
    count = max(1, min(BLOCK_RECORDS, BLOCK_BYTES // size))
    for start in range(0, len(where), count):
        block = where[start : start + count]
        records = _matrix(data, block, size)
        differing = records ^ shape.first
        alike = shape.matches(differing)
        if not alike.all():
            others.append(block[~alike])
            block, records, differing = block[alike], records[alike], differing[alike]
        if not len(block):
            continue
        rows = records.view(shape.common.fields)[:, 0]
        sound = shape.crcs_fit(rows, differing)
        if not sound.all():
            raise damaged(path, int(block[~sound][0]), "the CRC of its data is wrong")
        values = [rows[f"value{index}"] for index in range(len(event.scalars))]
        out.add(block, event, _steps(rows["step"]), rows["wall_time"], values)
    return np.concatenate(others) if others else where[:0]


def _matrix(data: bytes, where: Int64, size: int) -> UInt8:
    """The records of one size at increasing offsets (uint8, n x size)."""
    view, first, last = memoryview(data), int(where[0]), int(where[-1])
    if last - first == size * (len(where) - 1):  # contiguous
        joined = view[first : last + size]
    else:
        gaps = np.flatnonzero(np.diff(where) != size)
        starts = where[np.concatenate([[0], gaps + 1])].tolist()
        ends = (where[np.concatenate([gaps, [len(where) - 1]])] + size).tolist()
        joined = memoryview(b"".join(view[a:b] for a, b in zip(starts, ends, strict=True)))
    return np.frombuffer(joined, np.uint8).reshape(len(where), size)


@dataclass(frozen=True)
class _Shape:
    """Records that differ only in wall time, step and values: the first record, its CRC, and the
    layout that all share.
    """

    first: UInt8
    crc: np.uint32
    common: _Common

    @classmethod
    def of(cls, event: Event, record: bytes) -> _Shape:
        """The shape of a record with a checked CRC."""
        fields = ((event.wall_time, 8), event.step, *((at, 4) for _, at in event.scalars))
        crc = np.uint32(unmask(int.from_bytes(record[-FOOTER:], "little")))
        return cls(np.frombuffer(record, np.uint8), crc, _Common.of(fields, len(record)))

    def matches(self, differing: UInt8) -> NDArray[np.bool_]:
        """Mask (bool, n) of the records of this shape, with equal length and length CRC.

        `differing`: the bits (uint8, n x size) in which each record differs from the first.
        """
        return np.asarray(np.bitwise_or.reduce(differing & self.common.shared, axis=1) == 0)

    def crcs_fit(self, rows: NDArray[np.void], differing: UInt8) -> NDArray[np.bool_]:
        """Mask (bool, n) of the records with the right CRC."""
        effects = self.common.effects.of(differing[:, HEADER:-FOOTER])
        return np.asarray(mask_all(effects ^ self.crc) == rows["crc"])


@dataclass(frozen=True)
class _Common:
    """The layout of records of one shape.

    `shared`: mask of the equal bits (uint8, one entry per byte); `fields`: the differing fields;
    `effects`: their effect on the CRC.
    """

    shared: UInt8
    fields: np.dtype[np.void]
    effects: FieldEffects

    @staticmethod
    @lru_cache(maxsize=1024)  # many files have records with the same tags
    def of(fields: tuple[tuple[int, int], ...], size: int) -> _Common:
        """The layout of records of `size` bytes that differ in `fields` (offset and size)."""
        shared = np.full(size, 0xFF, np.uint8)
        shared[-FOOTER:] = 0
        for at, length in fields:
            shared[HEADER + at : HEADER + at + length] = 0
        step_at, step_size = fields[1]
        shared[HEADER + step_at : HEADER + step_at + step_size] = 0x80  # the end of the varint
        effects = FieldEffects(fields, size - HEADER - FOOTER)
        return _Common(shared, record_dtype(fields, size), effects)


def _steps(varints: UInt8) -> Int64:
    """The steps (int64, n) of varints (uint8, n x size)."""
    shifts = np.arange(varints.shape[1], dtype=np.uint64) * np.uint64(7)
    bits = (varints & np.uint8(0x7F)).astype(np.uint64) << shifts
    return np.asarray(np.bitwise_or.reduce(bits, axis=1)).view(np.int64)
