"""The framing of event files (TFRecord): offsets of records, and their CRCs.

A record is the length of its data (uint64), the masked CRC-32C of the length, the data, and the
masked CRC-32C of the data.
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
RECORDS_PER_CHECK = 256  # CRCs are checked in batches, for which the data are copied
MIN_RUN_RECORDS = 16  # consecutive records of one length before the rest of the run is searched
_LENGTH = struct.Struct("<Q")


@lru_cache(maxsize=1024)
def record_header(length: int) -> bytes:
    """The header of a TFRecord: the length of its data (uint64) and the masked CRC of that."""
    data = length.to_bytes(8, "little")
    return data + mask(crc32c(data)).to_bytes(4, "little")


def crc_fits(data: bytes, stored: bytes) -> bool:
    """Whether the four bytes after the data are its masked CRC."""
    return mask(crc32c(data)) == int.from_bytes(stored, "little")


def check_records(path: str, data: bytes, records: Sequence[tuple[int, int]]) -> None:
    """Raise VerifyError unless all CRCs of the records (offset, data length) are right."""
    for start in range(0, len(records), RECORDS_PER_CHECK):
        _check(path, data, records[start : start + RECORDS_PER_CHECK])


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


def offsets_by_length(path: str, data: bytes, complete: bool) -> dict[int, Int64]:
    """The offsets (int64, increasing) of the records by data length, without checking CRCs.

    A file that is still being written (`complete` is False) may end inside a record. Raises
    VerifyError.
    """
    unpack, offset, size = _LENGTH.unpack_from, 0, len(data)
    runs: dict[int, list[int]] = {}  # by length: offset and count of consecutive records
    alike, last, start = 0, -1, 0
    while offset + HEADER <= size:
        length, start = unpack(data, offset)[0], offset
        record = length + HEADER + FOOTER
        alike = alike + 1 if length == last else 0
        count = _run_length(data, offset, record) if alike > MIN_RUN_RECORDS else 1
        if alike:
            runs[length][-1] += count
        else:
            runs.setdefault(length, []).extend((offset, count))
        last, offset = length, offset + count * record
    if complete and offset != size:
        raise _overrun_error(path, data, offset if offset < size else start)
    if offset > size:
        runs[last][-1] -= 1
    found = {length: _expand_runs(each, length + HEADER + FOOTER) for length, each in runs.items()}
    return {length: offsets for length, offsets in found.items() if len(offsets)}


def _overrun_error(path: str, data: bytes, start: int) -> VerifyError:
    """The error for a record that exceeds the end of the file, which may have a wrong length."""
    header = data[start : start + HEADER]
    if len(header) < HEADER or header == record_header(_LENGTH.unpack_from(header)[0]):
        return damaged(path, start, "the file ends inside a record")
    return damaged(path, start, "the CRC of its length is wrong")


def _run_length(data: bytes, offset: int, size: int) -> int:
    """The number of consecutive records of `size` bytes from an offset on, at least one."""
    room, count = (len(data) - offset) // size, 1
    while count < room:
        count = min(512 * count, room)
        lengths = np.ndarray(count, "<u8", data, offset, (size,))
        others = np.flatnonzero(lengths != lengths[0])
        if len(others):
            return int(others[0])
    return count


def _expand_runs(runs: list[int], size: int) -> Int64:
    """The offset of each record, from the offset and count of each run of records of `size`."""
    if len(runs) == 2:
        return np.arange(runs[0], runs[0] + runs[1] * size, size)
    starts, counts = np.array(runs, np.int64).reshape(-1, 2).T
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(starts, counts) + within * size)


def record_dtype(fields: Sequence[tuple[int, int]], size: int) -> np.dtype[np.void]:
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


def damaged(path: str, offset: int, why: str) -> VerifyError:
    """The error for a damaged record."""
    return VerifyError(f"{path}: the record at byte {offset} is damaged: {why}.")
