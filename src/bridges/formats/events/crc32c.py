"""CRC-32C (Castagnoli) of byte strings, and of many similar records by column.

The CRC is affine over GF(2). The CRC of a record equals the CRC of a template with some bytes set
to zero, XOR one table lookup for each of these bytes; the table depends on the distance from the
end. So records that differ from a template in a few bytes cost a few lookups at any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import islice
from threading import Lock

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
UInt32 = NDArray[np.uint32]
UInt8 = NDArray[np.uint8]

_POLYNOMIAL = 0x82F63B78  # reversed; RFC 3720, appendix B.4
_BLOCK_BYTES = 128  # looked up together
_INVERTED = bytes(range(255, -1, -1))
_CHUNK_BYTES = 1 << 18  # processed at a time; the arrays take nine times as much memory
_MASK_DELTA = 0xA282EAD8  # TFRecord files store rotated and shifted CRCs


def _first_table() -> UInt32:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _first_table()
_FIRST: list[int] = _TABLE.tolist()
_tables = _TABLE[None, :]
_growing = Lock()


def crc32c(data: bytes) -> int:
    """The CRC-32C of a byte string."""
    return crc32c_each([data])[0]


def crc32c_short(data: bytes) -> int:
    """As `crc32c`, faster for few bytes: one by one."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _FIRST[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def crc32c_each(texts: Sequence[bytes]) -> list[int]:
    """The CRC-32C of each byte string; many strings cost little more than one.

    The CRC after a block is the XOR of the block's own effect and the effect of the previous CRC,
    which acts on the block's first four bytes. The same holds for the initial state. Leading zeros
    have no effect.
    """
    _, _, (first, second, third, fourth) = _block_tables()
    added = iter(_block_effects(texts))
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
        left = 0xFFFFFFFF >> 8 * min(len(text), 4)  # initial state not covered by a short text
        crcs.append(crc ^ left ^ 0xFFFFFFFF)
    return crcs


def crc32c_short_each(data: UInt8, end: Int64, length: Int64) -> UInt32:
    """The CRC-32C of many parts of a buffer, of four to a few hundred bytes each, by their ends."""
    longest = int(length.max())
    tables, columns = _tables_to(longest - 1), np.arange(longest)
    starts, flat = columns[::-1] * 256, tables.ravel()
    crc = np.empty(len(end), np.uint32)
    size = max(1, _CHUNK_BYTES // longest)
    for start in range(0, len(end), size):
        some = slice(start, start + size)
        part = data.take(end[some, None] + (columns - longest), mode="clip")
        part *= columns >= (longest - length[some, None])  # zeros have no effect
        np.bitwise_xor.reduce(flat.take(part + starts), axis=1, out=crc[some])
    inverted = np.bitwise_xor.accumulate(tables[:, 255])  # the initial state, in four bytes
    inverted[4:] ^= inverted[:-4].copy()
    return crc ^ inverted[length - 1] ^ np.uint32(0xFFFFFFFF)


def _block_effects(texts: Sequence[bytes]) -> list[int]:
    """The effect of each block on the CRC of its byte string, for all strings in order."""
    tables, starts, _ = _block_tables()
    padded = b"".join(
        bytes(-len(text) % _BLOCK_BYTES) + text[:4].translate(_INVERTED) + text[4:]
        for text in texts
    )
    blocks = np.frombuffer(padded, np.uint8).reshape(-1, _BLOCK_BYTES)
    added: list[int] = []
    count = max(1, _CHUNK_BYTES // _BLOCK_BYTES)
    for start in range(0, len(blocks), count):
        looked_up = tables[blocks[start : start + count] + starts]
        added += np.bitwise_xor.reduce(looked_up, axis=1).tolist()
    return added


def _blocks_of(text: bytes) -> int:
    return -(-len(text) // _BLOCK_BYTES)


@cache
def _block_tables() -> tuple[UInt32, NDArray[np.intp], list[list[int]]]:
    """All tables joined, the start of the table for each byte of a block, and the tables of the
    first four bytes.
    """
    distances = range(_BLOCK_BYTES - 1, -1, -1)
    first = [byte_table(distance).tolist() for distance in distances[:4]]
    return _tables_to(_BLOCK_BYTES - 1).ravel(), np.array(distances, np.intp) * 256, first


def mask(crc: int) -> int:
    """The masked CRC, as TFRecord framing stores it."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The CRC of a masked CRC."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def mask_all(crc: UInt32) -> UInt32:
    """`mask` of each CRC (uint32, n)."""
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return rotated + np.uint32(_MASK_DELTA)


def byte_table(distance: int) -> UInt32:
    """The effect of each byte value (uint32, 256) on the CRC if `distance` bytes follow it."""
    return np.asarray(_tables_to(distance)[distance])


@lru_cache(maxsize=64)
def pair_table(distance: int) -> UInt32:
    """The effect of two bytes (uint32, 65,536, little-endian) if `distance` bytes follow them."""
    return np.bitwise_xor.outer(byte_table(distance), byte_table(distance + 1)).ravel()


def _tables_to(distance: int) -> UInt32:
    """The tables (uint32, distances x 256) for at least the distances 0 to `distance`."""
    global _tables
    if len(_tables) <= distance:
        with _growing:
            made = [*_tables]
            while len(made) <= distance or len(made) % _BLOCK_BYTES:
                previous = made[-1]
                made.append(_TABLE[previous & np.uint32(0xFF)] ^ (previous >> np.uint32(8)))
            _tables = np.stack(made)
    return _tables


class FieldEffects:
    """The effect of some fields on the CRCs of records that differ only in these fields."""

    def __init__(self, fields: Sequence[tuple[int, int]], length: int) -> None:
        """`fields`: offset and size of each field in the data of `length` bytes."""
        where = [at for start, size in fields for at in range(start, start + size)]
        self._where = np.array(where, np.intp)
        self._longest = length - 1 - min(where)
        self._starts = (length - 1 - self._where)[:, None] * 256

    def of(self, data: UInt8) -> UInt32:
        """The value (uint32, n) to XOR with the CRC of each record, from their data (uint8, n x
        length).
        """
        # byte by byte, because numpy is fastest along the axis of many records
        tables, found = _tables_to(self._longest).ravel(), np.empty(len(data), np.uint32)
        width = max(1, _CHUNK_BYTES // len(self._where))
        for start in range(0, len(data), width):
            fields = data[start : start + width].T[self._where]
            looked_up = tables[fields + self._starts]
            np.bitwise_xor.reduce(looked_up, axis=0, out=found[start : start + width])
        return found


class ColumnEffects:
    """The effect of one field on the CRCs of many records, from the column of its values.

    `at`: offset of the field in the data of `length` bytes. With `pairs`, two bytes share one
    lookup, in tables of 256 KiB.
    """

    def __init__(self, at: int, size: int, length: int, *, pairs: bool) -> None:
        self._tables: list[tuple[int, str, UInt32]] = []  # first byte, dtype, effect
        width = 2 if pairs else 1
        for start in range(0, size, width):
            tables = [byte_table(length - 1 - at - i) for i in range(start, size)[:width]]
            if len(tables) == 1:
                self._tables.append((start, "u1", tables[0]))
            else:
                self._tables.append((start, "<u2", pair_table(length - 2 - at - start)))

    def add(self, crc: UInt32, column: NDArray[np.generic], scratch: UInt32) -> None:
        """XOR the effect of a column (n, contiguous, little-endian) into the CRCs (uint32, n).

        `scratch` (uint32, n) is overwritten. A byte that is equal in all rows costs one lookup.
        """
        for start, kind, table in self._tables:
            part = np.ndarray(len(column), kind, column.data, start, column.strides)
            if part[0] == part[-1] and (part == part[0]).all():
                crc ^= table[part[0]]
            else:
                np.take(table, part, out=scratch, mode="clip")  # other modes copy `scratch`
                crc ^= scratch
