"""CRC-32C (Castagnoli), one byte string at a time and over whole columns of records.

The CRC is affine over GF(2): the CRC of a record is that of a template in which some bytes are
zero, XOR one table look-up for each of these bytes, chosen by its distance from the end. So
records that differ from a template in a few bytes cost a few look-ups, whatever their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

UInt32 = NDArray[np.uint32]
UInt8 = NDArray[np.uint8]

_POLYNOMIAL = 0x82F63B78  # reversed; RFC 3720, appendix B.4
_BLOCK = 128  # bytes that are looked up together
_MASK_DELTA = 0xA282EAD8  # TFRecord files store rotated and shifted CRCs


def _first_table() -> UInt32:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _first_table()
_TABLE_LIST: list[int] = _TABLE.tolist()
_TABLES: list[UInt32] = [_TABLE]
_GROWING = Lock()  # of the tables: each is made of the one before


def crc32c(data: bytes) -> int:
    """The CRC-32C of the bytes."""
    crc, at = _blocks(data) if len(data) >= _BLOCK else (0xFFFFFFFF, 0)
    table = _TABLE_LIST
    for byte in data[at:]:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _blocks(data: bytes) -> tuple[int, int]:
    """The state after as many whole blocks as there are, and their bytes: one look-up for each byte
    of a block at once, the state so far counting as part of its first four.
    """
    table, rows = _block_table()
    blocks = np.frombuffer(data, np.uint8, len(data) // _BLOCK * _BLOCK).reshape(-1, _BLOCK)
    crc = 0xFFFFFFFF
    for block in blocks:
        mixed = block.copy()
        mixed[:4] ^= np.frombuffer(crc.to_bytes(4, "little"), np.uint8)
        crc = int(np.bitwise_xor.reduce(table.take(rows + mixed)))
    return crc, blocks.size


@cache
def _block_table() -> tuple[UInt32, NDArray[np.int64]]:
    """The tables of all distances in a block, one after the other, and where each begins."""
    tables = [byte_table(_BLOCK - 1 - index) for index in range(_BLOCK)]
    return np.concatenate(tables), np.arange(_BLOCK) * 256


def mask(crc: int) -> int:
    """The form in which TFRecord framing stores a CRC."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def mask_all(crc: UInt32) -> UInt32:
    """`mask` of each CRC (uint32, n)."""
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return rotated + np.uint32(_MASK_DELTA)


def byte_table(distance: int) -> UInt32:
    """What a byte (uint32, 256 entries) adds to the CRC when `distance` bytes follow it."""
    if len(_TABLES) <= distance:
        with _GROWING:
            while len(_TABLES) <= distance:
                previous = _TABLES[-1]
                _TABLES.append(_TABLE[previous & np.uint32(0xFF)] ^ (previous >> np.uint32(8)))
    return _TABLES[distance]


class FieldEffects:
    """What the bytes of some fields add to the CRCs of records that differ in nothing else."""

    def __init__(self, fields: Sequence[tuple[int, int]], length: int) -> None:
        """`fields` are offset and size of each in the data, which has that length."""
        distances = [length - 1 - at for start, size in fields for at in range(start, start + size)]
        self._tables = np.concatenate([byte_table(distance) for distance in distances])
        self._starts = np.arange(len(distances), dtype=np.intp)[:, None] * 256

    def of(self, columns: Sequence[NDArray[Any]]) -> UInt32:
        """What to XOR to the CRC of each of n records (uint32, n); `columns` has for each field the
        values (n) or bytes (uint8, n x size) that the records hold, contiguous.
        """
        # byte by byte: numpy is fastest where many records lie side by side
        parts = [column.view(np.uint8).reshape(len(column), -1).T for column in columns]
        looked_up = self._tables.take(np.concatenate(parts) + self._starts)
        return np.asarray(np.bitwise_xor.reduce(looked_up, axis=0), np.uint32)
