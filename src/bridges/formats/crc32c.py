"""CRC-32C (Castagnoli), one byte string at a time and over whole columns of records.

The CRC is affine over GF(2): the CRC of a record is that of a template in which some bytes are
zero, XOR one table look-up for each of these bytes, chosen by its distance from the end. So
records that differ from a template in a few bytes cost a few look-ups, whatever their length.
"""

from __future__ import annotations

from functools import cache
from threading import Lock

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


def add_bytes(crc: UInt32, columns: UInt8, distance: int) -> None:
    """XOR into `crc` (uint32, n) the effect of adjacent byte columns (uint8, n x k).

    `distance` counts the bytes that follow the first column.
    """
    for index in range(columns.shape[1]):
        crc ^= byte_table(distance - index).take(columns[:, index])
