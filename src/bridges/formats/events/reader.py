"""Event files back into columns, every length and CRC checked.

The reader knows nothing of what was written: it takes the first record of each length apart as
protobuf, and decodes as columns all records that differ from it only in wall time, step and values.
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
from bridges.formats.events.messages import Event, take_apart
from bridges.formats.events.tfrecord import (
    FOOTER,
    HEADER,
    TOGETHER,
    check_records,
    crc_fits,
    damaged,
    offsets_by_length,
    record_dtype,
    record_header,
)
from bridges.formats.protobuf import read_varint
from bridges.stream.model import Float64, Int64, Values

BLOCK, LARGEST = 8192, 1 << 22  # records and bytes that are decoded together
FEW = 4  # records of one shape below which taking each apart is faster
MANY = 32  # records taken apart after a search for like ones did not pay, then twice as many
SMALL, MERGED = 8, 1024  # parts of a tag that become one, and its points: small parts cost memory
LONG = 64  # bytes of a record for each like it above which it is, as tables grow with its length


@dataclass(slots=True)
class ScalarPart:
    """Some points of one tag: the offsets of their records in the file, step, value, wall time.

    Values and wall times lie where they lay in the file, whose bytes they keep in memory.
    """

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

    @property
    def parts(self) -> Iterator[ScalarPart]:
        """The points of all tags."""
        return (part for parts in self.scalars.values() for part in parts)

    def add(
        self, offset: Int64, event: Event, step: Int64, time: Float64, values: Sequence[Values]
    ) -> None:
        """Add the points of records of one shape; `values` has one column a scalar."""
        for index, (tag, _) in enumerate(event.scalars):
            parts = self.scalars.setdefault(tag, [])
            parts.append(ScalarPart(offset, step, values[index], time))
            if len(parts) % SMALL == 0:
                _merge_small(parts)


def _merge_small(parts: list[ScalarPart]) -> None:
    """Make one of the last parts, if they are small."""
    last = parts[-SMALL:]
    if sum(len(part.step) for part in last) < MERGED:
        columns = (
            [getattr(part, name) for part in last]
            for name in ("offset", "step", "value", "wall_time")
        )
        parts[-SMALL:] = [ScalarPart(*map(np.concatenate, columns))]


def read_event_file(path: str) -> EventFile:
    """The whole file, as this program wrote it. Raises VerifyError for anything that is not a sound
    event file.
    """
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
    """The texts of the first few records, as (tag, text): cheap, whatever the file's size.

    Raises OSError, and VerifyError where one of these records is damaged.
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
            texts += take_apart(data).texts
            offset = file.tell()
    return texts


def decode(
    path: str, data: bytes, *, whole: bool = True, most_tags: int | None = None
) -> EventFile:
    """What the bytes of an event file hold. One that is still written (`whole` is False) may end
    inside of a record, or with the zero bytes that a power cut leaves. Raises VerifyError for what
    is damaged, and for more than `most_tags`.
    """
    if not whole and data.endswith(bytes(HEADER)):
        data = data.rstrip(b"\0")
    out, by_length = EventFile(), offsets_by_length(path, data, whole)
    check_records(path, data, [(int(where[0]), length) for length, where in by_length.items()])
    for length, where in by_length.items():
        _decode_equal_lengths(path, data, length, where, out, most_tags)
    return out


def _decode_equal_lengths(
    path: str, data: bytes, length: int, where: Int64, out: EventFile, most_tags: int | None
) -> None:
    """Decode the records of one length; the CRCs of the first of them are right."""
    pending, checked, ahead, plainly, many = where, 1, 1, 0, MANY
    while len(pending):
        offset = int(pending[0])
        if not checked:
            some = pending[: min(max(plainly, ahead), TOGETHER)].tolist()
            check_records(path, data, [(each, length) for each in some])
            checked = len(some)
        event = take_apart(data[offset + HEADER : offset + HEADER + length])
        if most_tags is not None and len(event.scalars) + len(out.scalars) > most_tags:
            raise VerifyError(f"{path}: holds more than {most_tags:,} tags")
        ahead = 1 if event.is_columnar() else TOGETHER
        if plainly or len(pending) < max(FEW, length // LONG) or ahead > 1:
            _decode_one(data, length, offset, event, out)
            pending, checked, plainly = pending[1:], checked - 1, max(plainly - 1, 0)
            continue
        rest = _decode_columns(path, data, length, pending, event, out)
        if len(pending) - len(rest) < MANY:  # many shapes: looking for like ones does not pay
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
    """Decode the records like the first of `where`; the offsets of the others are returned."""
    first, size = int(where[0]), HEADER + length + FOOTER
    shape = _Shape.of(event, data[first : first + size])
    others = []
    count = max(1, min(BLOCK, LARGEST // size))
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
    """The records of that size at these rising offsets (uint8, n x size)."""
    view, first, last = memoryview(data), int(where[0]), int(where[-1])
    if last - first == size * (len(where) - 1):  # nothing lies between them
        joined = view[first : last + size]
    else:
        cuts = np.flatnonzero(np.diff(where) != size)
        starts = where[np.concatenate([[0], cuts + 1])].tolist()
        ends = (where[np.concatenate([cuts, [len(where) - 1]])] + size).tolist()
        joined = memoryview(b"".join(view[a:b] for a, b in zip(starts, ends, strict=True)))
    return np.frombuffer(joined, np.uint8).reshape(len(where), size)


@dataclass(frozen=True)
class _Shape:
    """Records that differ only in the bytes of wall time, step and values: the first of them, its
    CRC, and what all have in common.
    """

    first: UInt8
    crc: np.uint32
    common: _Common

    @classmethod
    def of(cls, event: Event, record: bytes) -> _Shape:
        """The shape of a record whose CRC is right."""
        fields = ((event.wall_time, 8), event.step, *((at, 4) for _, at in event.scalars))
        crc = np.uint32(unmask(int.from_bytes(record[-FOOTER:], "little")))
        return cls(np.frombuffer(record, np.uint8), crc, _Common.of(fields, len(record)))

    def matches(self, differing: UInt8) -> NDArray[np.bool_]:
        """Which records (bool, n) are of this shape, their length and its CRC included, by the bits
        (uint8, n x size) in which they differ from the first.
        """
        return np.asarray(np.bitwise_or.reduce(differing & self.common.shared, axis=1) == 0)

    def crcs_fit(self, rows: NDArray[np.void], differing: UInt8) -> NDArray[np.bool_]:
        """For which records (bool, n) the CRC is what it should be."""
        effects = self.common.effects.of(differing[:, HEADER:-FOOTER])
        return np.asarray(mask_all(effects ^ self.crc) == rows["crc"])


@dataclass(frozen=True)
class _Common:
    """Of records of one shape: which bits (uint8, one a byte) they share, where the parts lie in
    which they differ, and what these add to their CRCs.
    """

    shared: UInt8
    fields: np.dtype[np.void]
    effects: FieldEffects

    @staticmethod
    @lru_cache(maxsize=1024)  # many files hold records of the same tags
    def of(fields: tuple[tuple[int, int], ...], size: int) -> _Common:
        """What records of that size have in common whose fields (offset and size) are these."""
        shared = np.full(size, 0xFF, np.uint8)
        shared[-FOOTER:] = 0
        for at, length in fields:
            shared[HEADER + at : HEADER + at + length] = 0
        step_at, step_size = fields[1]
        shared[HEADER + step_at : HEADER + step_at + step_size] = 0x80  # where a varint ends
        effects = FieldEffects(fields, size - HEADER - FOOTER)
        return _Common(shared, record_dtype(fields, size), effects)


def _steps(varints: UInt8) -> Int64:
    """The steps (int64, n) of varints (uint8, n x size)."""
    shifts = np.arange(varints.shape[1], dtype=np.uint64) * np.uint64(7)
    bits = (varints & np.uint8(0x7F)).astype(np.uint64) << shifts
    return np.asarray(np.bitwise_or.reduce(bits, axis=1)).view(np.int64)
