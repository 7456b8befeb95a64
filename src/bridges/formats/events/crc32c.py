"""CRC-32C (Castagnoli), one byte string at a time and over whole columns of records.

The CRC is affine over GF(2): the CRC of a record is that of a template in which some bytes are
zero, XOR one table look-up for each of these bytes, chosen by its distance from the end. So
records that differ from a template in a few bytes cost a few look-ups, whatever their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import islice
from threading import Lock

import numpy as np
from numpy.typing import NDArray

UInt32 = NDArray[np.uint32]
UInt8 = NDArray[np.uint8]

_POLYNOMIAL = 0x82F63B78  # reversed; RFC 3720, appendix B.4
_BLOCK = 128  # bytes that are looked up together
_INVERTED = bytes(range(255, -1, -1))
_AT_ONCE = 1 << 18  # bytes for which there is room: nine times as many are in use meanwhile
_MASK_DELTA = 0xA282EAD8  # TFRecord files store rotated and shifted CRCs


def _first_table() -> UInt32:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _first_table()
_tables = _TABLE[None, :]
_growing = Lock()


def crc32c(data: bytes) -> int:
    """The CRC-32C of the bytes."""
    return crc32c_each([data])[0]


def crc32c_each(texts: Sequence[bytes]) -> list[int]:
    """The CRC-32C of each of some byte strings: together they cost little more than one.

    What each block of bytes adds by itself, and to that the state so far, which counts as part of
    its first four bytes. So does the first state, and zeros before a text add nothing.
    """
    _, _, (first, second, third, fourth) = _block_tables()
    added = iter(_added_by_blocks(texts))
    crcs = []
    for text in texts:
        crc = 0
        for more in islice(added, _blocks_of(text)):
            crc = (
                first[crc & 0xFF]
                ^ second[crc >> 8 & 0xFF]
                ^ third[crc >> 16 & 0xFF]
                ^ fourth[crc >> 24]
                ^ more
            )
        left = 0xFFFFFFFF >> 8 * min(len(text), 4)  # of the first state, behind a shorter text
        crcs.append(crc ^ left ^ 0xFFFFFFFF)
    return crcs


def _added_by_blocks(texts: Sequence[bytes]) -> list[int]:
    """What each block of all texts adds to the CRC of its own, one text after the other."""
    tables, starts, _ = _block_tables()
    padded = b"".join(
        bytes(-len(text) % _BLOCK) + text[:4].translate(_INVERTED) + text[4:] for text in texts
    )
    blocks = np.frombuffer(padded, np.uint8).reshape(-1, _BLOCK)
    added: list[int] = []
    count = max(1, _AT_ONCE // _BLOCK)
    for start in range(0, len(blocks), count):
        looked_up = tables[blocks[start : start + count] + starts]
        added += np.bitwise_xor.reduce(looked_up, axis=1).tolist()
    return added


def _blocks_of(text: bytes) -> int:
    return -(-len(text) // _BLOCK)


@cache
def _block_tables() -> tuple[UInt32, NDArray[np.intp], list[list[int]]]:
    """The tables, where that of each byte of a block begins, and those of its first four."""
    distances = range(_BLOCK - 1, -1, -1)
    first = [byte_table(distance).tolist() for distance in distances[:4]]
    return _tables_to(_BLOCK - 1).ravel(), np.array(distances, np.intp) * 256, first


def mask(crc: int) -> int:
    """The form in which TFRecord framing stores a CRC."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The CRC of which this is the mask."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def mask_all(crc: UInt32) -> UInt32:
    """`mask` of each CRC (uint32, n)."""
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return rotated + np.uint32(_MASK_DELTA)


def byte_table(distance: int) -> UInt32:
    """What a byte (uint32, 256 entries) adds to the CRC when `distance` bytes follow it."""
    return np.asarray(_tables_to(distance)[distance])


def _tables_to(distance: int) -> UInt32:
    """The tables (uint32, distances x 256) of at least all distances up to this one."""
    global _tables
    if len(_tables) <= distance:
        with _growing:
            made = [*_tables]
            while len(made) <= distance or len(made) % _BLOCK:
                previous = made[-1]
                made.append(_TABLE[previous & np.uint32(0xFF)] ^ (previous >> np.uint32(8)))
            _tables = np.stack(made)
    return _tables


class FieldEffects:
    """What the bytes of some fields add to the CRCs of records that differ in nothing else."""

    def __init__(self, fields: Sequence[tuple[int, int]], length: int) -> None:
        """`fields` are offset and size of each in the data, which has that length."""
        where = [at for start, size in fields for at in range(start, start + size)]
        self._where = np.array(where, np.intp)
        self._longest = length - 1 - min(where)
        self._starts = (length - 1 - self._where)[:, None] * 256

    def of(self, data: UInt8) -> UInt32:
        """What to XOR to the CRC of each of n records (uint32, n), given their data (uint8, n x
        length).
        """
        # byte by byte: numpy is fastest where many records lie side by side
        tables, found = _tables_to(self._longest).ravel(), np.empty(len(data), np.uint32)
        width = max(1, _AT_ONCE // len(self._where))
        for start in range(0, len(data), width):
            fields = data[start : start + width].T[self._where]
            looked_up = tables[fields + self._starts]
            np.bitwise_xor.reduce(looked_up, axis=0, out=found[start : start + width])
        return found


class ColumnEffects:
    """What one column of a field adds to the CRCs of many records, read from the column itself.

    `at` is the offset of the field in the data of each record, which has `length` bytes. With
    `pairs`, two bytes share one look-up; each such table takes 256 KiB.
    """

    def __init__(self, at: int, size: int, length: int, *, pairs: bool) -> None:
        self._tables: list[tuple[int, str, UInt32]] = []  # first byte, dtype, what it adds
        width = 2 if pairs else 1
        for start in range(0, size, width):
            tables = [byte_table(length - 1 - at - i) for i in range(start, size)[:width]]
            if len(tables) == 1:
                self._tables.append((start, "u1", tables[0]))
            else:
                both = np.bitwise_xor.outer(tables[1], tables[0]).ravel()
                self._tables.append((start, "<u2", both))

    def add(self, crc: UInt32, column: NDArray[np.generic], scratch: UInt32) -> None:
        """XOR into the CRCs (uint32, n) what the column (n, contiguous, little-endian) adds.

        `scratch` (uint32, n) is overwritten. Bytes that all rows share cost one look-up.
        """
        for start, kind, table in self._tables:
            part = np.ndarray(len(column), kind, column.data, start, column.strides)
            if part[0] == part[-1] and (part == part[0]).all():
                crc ^= table[part[0]]
            else:
                np.take(table, part, out=scratch, mode="clip")  # other modes copy `scratch`
                crc ^= scratch
