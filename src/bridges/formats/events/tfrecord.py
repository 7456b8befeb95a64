"""The framing of event files (TFRecord): where records lie, and their CRCs.

A record is the length of its data (uint64), the masked CRC-32C of the length, the data, and the
masked CRC-32C of the data.
"""

from __future__ import annotations

import struct
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events.crc32c import (
    crc32c,
    crc32c_each,
    crc32c_short_each,
    mask,
    mask_all,
)
from bridges.stream.model import Int64

HEADER, FOOTER = 12, 4  # bytes around the data
MIN_SHORT_RECORDS, MAX_SHORT_BYTES = 16, 255  # whose CRCs are computed by column
RECORDS_PER_CHECK = 256  # CRCs are checked in batches, for which the data are copied
LEARNED_RECORDS, MAX_LEARNED_RECORDS = 16, 1024  # read one by one before a cycle is looked for
MIN_GAIN = 8  # times the records read; if fewer repeat, more are read before the next search
FIRST_GUESS, GUESS_GROWTH = 256, 8  # repetitions that are compared at once
_TAIL_BYTES = 1 << 16  # searched at once for the last byte that is not zero
_LENGTH = struct.Struct("<Q")


class EventFileError(ValueError):
    """The bytes are not a complete, sound event file.

    `path`: the file; `offset`: the byte of the damaged record, if one is damaged; `found`: the
    problem.
    """

    def __init__(self, path: str, found: str, offset: int | None = None) -> None:
        self.path = path
        self.offset = offset
        self.found = found
        place = "" if offset is None else f"the record at byte {offset} is damaged: "
        super().__init__(f"{path}: {place}{found}.")


def damaged(path: str, data: bytes, offset: int) -> EventFileError:
    """The error for a record with a wrong CRC, or with an end beyond that of the file."""
    header = data[offset : offset + HEADER]
    length = _LENGTH.unpack_from(header)[0] if len(header) == HEADER else 0
    if len(header) == HEADER and header != record_header(length):
        found = "the CRC of its length is wrong"
    elif len(header) < HEADER or offset + HEADER + length + FOOTER > len(data):
        found = "the file ends inside a record"
    else:
        found = "the CRC of its data is wrong"
    return EventFileError(path, found, offset)


@lru_cache(maxsize=1024)
def record_header(length: int) -> bytes:
    """The header of a TFRecord: the length of its data (uint64) and the masked CRC of that."""
    data = length.to_bytes(8, "little")
    return data + mask(crc32c(data)).to_bytes(4, "little")


def is_record_header(data: bytes) -> bool:
    """Whether bytes begin with the header of a record, as an event file does; 12 are needed."""
    header = data[:HEADER]
    return len(header) == HEADER and header == record_header(_LENGTH.unpack(header[:8])[0])


def crc_fits(data: bytes, stored: bytes) -> bool:
    """Whether the four bytes after the data are its masked CRC."""
    return mask(crc32c(data)) == int.from_bytes(stored, "little")


def record_fits(data: bytes, offset: int) -> bool:
    """Whether a complete record with right CRCs begins at an offset."""
    if not is_record_header(data[offset : offset + HEADER]):
        return False
    start = offset + HEADER
    end = start + _LENGTH.unpack_from(data, offset)[0]
    return end + FOOTER <= len(data) and crc_fits(data[start:end], data[end : end + FOOTER])


def records_fit(data: bytes, where: Int64, length: Int64) -> NDArray[np.bool_]:
    """Mask of the records (offset and data length) with right CRCs."""
    fit = np.zeros(len(where), bool)
    is_short = (length >= 4) & (length <= MAX_SHORT_BYTES)
    if np.count_nonzero(is_short) < MIN_SHORT_RECORDS:
        is_short[:] = False
    if is_short.any():
        fit[is_short] = _short_fit(data, where[is_short], length[is_short])
    others = (~is_short).nonzero()[0]
    for start in range(0, len(others), RECORDS_PER_CHECK):
        some = others[start : start + RECORDS_PER_CHECK]
        fit[some] = _each_fit(data, where[some].tolist(), length[some].tolist())
    return fit


def _each_fit(data: bytes, where: Sequence[int], length: Sequence[int]) -> list[bool]:
    bodies = [
        data[at + HEADER : at + HEADER + size] for at, size in zip(where, length, strict=True)
    ]
    return [
        data[at : at + HEADER] == record_header(size)
        and mask(crc).to_bytes(4, "little")
        == data[at + HEADER + size : at + HEADER + size + FOOTER]
        for at, size, crc in zip(where, length, crc32c_each(bodies), strict=True)
    ]


def _short_fit(data: bytes, where: Int64, length: Int64) -> NDArray[np.bool_]:
    stored = np.ndarray(len(data) - 7, "<i8", data, 0, (1,))[where]
    words = np.ndarray(len(data) - 3, "<u4", data, 0, (1,))
    expected = np.zeros(MAX_SHORT_BYTES + 1, np.uint32)
    for size in set(length.tolist()):
        expected[size] = int.from_bytes(record_header(size)[8:], "little")
    end = where + HEADER + length
    crc = mask_all(crc32c_short_each(np.frombuffer(data, np.uint8), end, length))
    same: NDArray[np.bool_] = (stored == length) & (words[where + 8] == expected[length])
    same &= words[end] == crc
    return same


class Cycle(NamedTuple):
    """Records whose data lengths repeat: the offset of the first, the lengths, how often they
    follow each other, and the bytes of one repetition.
    """

    offset: int
    lengths: tuple[int, ...]
    repeats: int
    size: int


@dataclass
class Frames:
    """Where the records of a file lie, by the lengths alone: no CRC is checked.

    `cycles`: repeated sequences of records; `others`: the offsets of all other records, increasing,
    by data length. `stop`: the end of the last complete record; `torn`: the number of bytes after
    it, 0 if they are zeros that end the file; `is_cut`: a record begins there.
    """

    cycles: list[Cycle] = field(default_factory=list)
    others: dict[int, array[int]] = field(default_factory=lambda: defaultdict(_offsets))
    stop: int = 0
    torn: int = 0
    is_cut: bool = True

    def add(self, starts: Sequence[int], lengths: Sequence[int]) -> None:
        """Add records by their offsets and data lengths."""
        for start, length in zip(starts, lengths, strict=True):
            self.others[length].append(start)

    def fit(self, data: bytes) -> bool:
        """Whether other data have the same records, and end with the last one."""
        if self.torn or self.stop != len(data) or not data or not data[-1]:
            return False
        starts, lengths = self._bounds
        stored = np.ndarray(len(data) - 7, "<i8", data, 0, (1,))[starts]
        return bool((stored == lengths).all())

    @cached_property
    def _bounds(self) -> tuple[Int64, Int64]:
        """The offset and the data length of each record."""
        groups = [(length, np.array(found, np.int64)) for length, found in self.others.items()]
        for at, lengths, repeats, size in self.cycles:
            for length in lengths:
                groups.append((length, np.arange(at, at + repeats * size, size)))
                at += length + HEADER + FOOTER
        sizes = np.array([length for length, _ in groups])
        counts = [len(starts) for _, starts in groups]
        return np.concatenate([starts for _, starts in groups]), sizes.repeat(counts)


def _offsets() -> array[int]:
    return array("q")


def find_records(data: bytes, *, complete: bool) -> Frames:
    """The records of a file.

    A file that is not `complete` may end with zeros, as a power cut leaves them.
    """
    end = len(data) if complete else _content_end(data)
    frames, starts, lengths = Frames(), [], []
    unpack, offset, wait = _LENGTH.unpack_from, 0, LEARNED_RECORDS
    last = min(end, len(data) - HEADER + 1)
    while offset < last:
        length = unpack(data, offset)[0]
        starts.append(offset)
        lengths.append(length)
        offset += length + HEADER + FOOTER
        if len(starts) < wait or offset >= last:
            continue
        cycle = _repeated(data, offset, end, lengths)
        frames.add(starts, lengths)
        if cycle.repeats:
            frames.cycles.append(cycle)
            offset += cycle.repeats * cycle.size
        is_long = cycle.repeats * len(cycle.lengths) >= MIN_GAIN * wait
        wait = LEARNED_RECORDS if is_long else min(4 * wait, MAX_LEARNED_RECORDS)
        starts, lengths = [], []
    is_whole = offset <= len(data) and (offset <= end or record_fits(data, starts[-1]))
    if not is_whole:
        offset = starts.pop()
        lengths.pop()
    frames.add(starts, lengths)
    frames.stop = offset
    frames.torn = len(data) - offset if offset < end else 0
    frames.is_cut = end - offset < HEADER or is_record_header(data[offset : offset + HEADER])
    return frames


def _content_end(data: bytes) -> int:
    """The offset after the last byte that is not zero."""
    end = len(data)
    while end and not data[end - 1]:
        some = data[max(0, end - _TAIL_BYTES) : end]
        end -= len(some) - len(some.rstrip(b"\0"))
    return end


def _repeated(data: bytes, offset: int, end: int, lengths: Sequence[int]) -> Cycle:
    """The cycle of the last lengths, and how often it follows at an offset.

    A number of repetitions is guessed and compared at once; each has equal lengths at the places
    that the ones before it determine, so the result is exact.
    """
    count = _period(lengths)
    repeated = tuple(lengths[len(lengths) - count :])
    size = sum(repeated) + count * (HEADER + FOOTER)
    room, done, guess = (end - offset) // size if count else 0, 0, FIRST_GUESS
    while done < room:
        wanted = min(guess, room - done)
        found = _equal_cycles(data, offset + done * size, repeated, size, wanted)
        done, guess = done + found, guess * GUESS_GROWTH
        if found < wanted:
            break
    return Cycle(offset, repeated, done, size)


def _period(lengths: Sequence[int]) -> int:
    """The least number of lengths that repeat in the last half of them, at least twice, or 0."""
    view, count = memoryview(array("q", lengths)), len(lengths)
    for period in range(1, count // 2 + 1):
        start = count - max(2 * period, count // 2)
        if view[start + period :] == view[start : count - period]:
            return period
    return 0


def _equal_cycles(data: bytes, offset: int, lengths: Sequence[int], size: int, most: int) -> int:
    """How many repetitions of `size` bytes begin at an offset, of `most` that fit into the data."""
    for length in lengths:
        differs = np.ndarray(most, "<u8", data, offset, (size,)) != length
        offset += length + HEADER + FOOTER
        at = int(differs.argmax())
        if differs[at]:
            most = at
            if not most:
                return 0
    return most
