"""The frames of event files (TFRecord): where each record begins and ends, and its CRCs.

A record is its length (uint64), the masked CRC-32C of that, the data, and their masked CRC-32C.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

from bridges.errors import VerifyError
from bridges.formats.crc32c import crc32c, mask
from bridges.stream.model import Int64

HEADER, FOOTER = 12, 4  # bytes around the data
ALIKE = 16  # records of one length in a row after which more are looked for at once
_LENGTH = struct.Struct("<Q")
_REMEDY = "Delete its directory and export the run again."


@lru_cache(maxsize=1024)
def record_header(length: int) -> bytes:
    """What precedes the data of a TFRecord: its length (uint64) and the masked CRC of that."""
    data = length.to_bytes(8, "little")
    return data + mask(crc32c(data)).to_bytes(4, "little")


def crc_fits(data: bytes, stored: bytes) -> bool:
    """Whether the four bytes that follow the data are its masked CRC."""
    return mask(crc32c(data)) == int.from_bytes(stored, "little")


def offsets_by_length(path: str, data: bytes, whole: bool) -> dict[int, Int64]:
    """The offsets (int64, n, rising) of the records whose data have a length, by that length, all
    by the lengths alone. What is still written (`whole` is False) may end inside of a record.
    Raises VerifyError.
    """
    unpack, offset, size = _LENGTH.unpack_from, 0, len(data)
    runs: list[int] = []  # offset, length and count of records of one length in a row
    alike, last = 0, -1
    while offset + HEADER <= size:
        length = unpack(data, offset)[0]
        alike, last = (alike + 1 if length == last else 0), length
        record = length + HEADER + FOOTER
        count = _alike(data, offset, record) if alike > ALIKE else 1
        runs += (offset, length, count)
        offset += count * record
    if whole and offset != size:
        raise _unending(path, data, offset if offset < size else runs[-3])
    if offset > size:
        del runs[-3:]
    starts, lengths, counts = np.array(runs, np.int64).reshape(-1, 3).T
    return {
        length: _spread(starts[same], counts[same], length + HEADER + FOOTER)
        for length in dict.fromkeys(lengths.tolist())
        for same in [lengths == length]
    }


def _unending(path: str, data: bytes, start: int) -> VerifyError:
    """The error of a record that goes on behind the end of the file: it may be its length that is
    wrong.
    """
    header = data[start : start + HEADER]
    if len(header) < HEADER or header == record_header(_LENGTH.unpack_from(header)[0]):
        return damaged(path, start, "the file ends inside of a record")
    return damaged(path, start, "the CRC of its length is wrong")


def _alike(data: bytes, offset: int, size: int) -> int:
    """How many records of that size follow one another at an offset: at least the first."""
    room, count = (len(data) - offset) // size, 1
    while count < room:
        count = min(8 * count, room)
        lengths = np.ndarray(count, "<u8", data, offset, (size,))
        others = np.flatnonzero(lengths != lengths[0])
        if len(others):
            return int(others[0])
    return count


def _spread(starts: Int64, counts: Int64, size: int) -> Int64:
    """Where each record begins, of some runs of records of that size."""
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(starts, counts) + within * size)


def damaged(path: str, offset: int, why: str) -> VerifyError:
    """The error of a record that is not as it was written."""
    return VerifyError(f"{path}: the record at byte {offset} is damaged: {why}. {_REMEDY}")
