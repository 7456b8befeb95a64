"""The frames of event files (TFRecord): where each record begins and ends, and its CRCs.

A record is its length (uint64), the masked CRC-32C of that, the data, and their masked CRC-32C.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bridges.errors import VerifyError
from bridges.formats.events.crc32c import crc32c, crc32c_each, mask
from bridges.stream.model import Int64

HEADER, FOOTER = 12, 4  # bytes around the data
TOGETHER = 256  # records that are checked together: their data are copied for that
ALIKE = 16  # records of one length in a row after which more are looked for at once
_LENGTH = struct.Struct("<Q")


@lru_cache(maxsize=1024)
def record_header(length: int) -> bytes:
    """What precedes the data of a TFRecord: its length (uint64) and the masked CRC of that."""
    data = length.to_bytes(8, "little")
    return data + mask(crc32c(data)).to_bytes(4, "little")


def crc_fits(data: bytes, stored: bytes) -> bool:
    """Whether the four bytes that follow the data are its masked CRC."""
    return mask(crc32c(data)) == int.from_bytes(stored, "little")


def check_records(path: str, data: bytes, records: Sequence[tuple[int, int]]) -> None:
    """Raise VerifyError unless all CRCs of these records (offset and data length) are right."""
    for start in range(0, len(records), TOGETHER):
        _check(path, data, records[start : start + TOGETHER])


def _check(path: str, data: bytes, records: Sequence[tuple[int, int]]) -> None:
    bodies = []
    for offset, length in records:
        start = offset + HEADER
        if data[offset:start] != record_header(length):
            raise damaged(path, offset, "the CRC of its length is wrong")
        bodies.append(data[start : start + length])
    for (offset, length), crc in zip(records, crc32c_each(bodies), strict=True):
        end = offset + HEADER + length
        if mask(crc) != int.from_bytes(data[end : end + FOOTER], "little"):
            raise damaged(path, offset, "the CRC of its data is wrong")


def offsets_by_length(path: str, data: bytes, whole: bool) -> dict[int, Int64]:
    """The offsets (int64, n, rising) of the records whose data have a length, by that length, all
    by the lengths alone. What is still written (`whole` is False) may end inside of a record.
    Raises VerifyError.
    """
    unpack, offset, size = _LENGTH.unpack_from, 0, len(data)
    runs: dict[int, list[int]] = {}  # by length: offset and count of records of it in a row
    alike, last, start = 0, -1, 0
    while offset + HEADER <= size:
        length, start = unpack(data, offset)[0], offset
        record = length + HEADER + FOOTER
        alike = alike + 1 if length == last else 0
        count = _alike(data, offset, record) if alike > ALIKE else 1
        if alike:
            runs[length][-1] += count
        else:
            runs.setdefault(length, []).extend((offset, count))
        last, offset = length, offset + count * record
    if whole and offset != size:
        raise _unending(path, data, offset if offset < size else start)
    if offset > size:
        runs[last][-1] -= 1
    found = {length: _spread(each, length + HEADER + FOOTER) for length, each in runs.items()}
    return {length: offsets for length, offsets in found.items() if len(offsets)}


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
        count = min(512 * count, room)
        lengths = np.ndarray(count, "<u8", data, offset, (size,))
        others = np.flatnonzero(lengths != lengths[0])
        if len(others):
            return int(others[0])
    return count


def _spread(runs: list[int], size: int) -> Int64:
    """Where each record begins, of records of that size: offset and count of each run of such."""
    if len(runs) == 2:
        return np.arange(runs[0], runs[0] + runs[1] * size, size)
    starts, counts = np.array(runs, np.int64).reshape(-1, 2).T
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(starts, counts) + within * size)


def record_dtype(fields: Sequence[tuple[int, int]], size: int) -> np.dtype[np.void]:
    """Records of that size (bytes) with scalars: wall_time, step (uint8, its varint), value0, …
    and crc. `fields` are offset and size of wall time, step and each value in the data; nothing
    need be aligned.
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


def damaged(path: str, offset: int, why: str) -> VerifyError:
    """The error of a record that is not as it was written."""
    return VerifyError(f"{path}: the record at byte {offset} is damaged: {why}.")
