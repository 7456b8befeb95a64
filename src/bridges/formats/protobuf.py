"""Protocol buffer encoding, shared by event files and W&B logs."""

from __future__ import annotations

import struct

MAX_VARINT_BITS = 70  # in ten bytes
_pack_double = struct.Struct("<d").pack
_SMALL = [bytes([value]) for value in range(0x80)]


def varint(value: int) -> bytes:
    """An int64 as a varint; negative numbers take ten bytes."""
    if 0 <= value <= 0x7F:
        return _SMALL[value]
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sized(field: int, payload: bytes) -> bytes:
    """A length-delimited field: bytes, text or a message."""
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def integer(field: int, value: int) -> bytes:
    """A varint field."""
    return varint(field << 3) + varint(value)


def double(field: int, value: float) -> bytes:
    """A float64 field."""
    return varint(field << 3 | 1) + _pack_double(value)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned varint at an offset, and the offset after it. Raises IndexError."""
    value = shift = 0
    while shift < MAX_VARINT_BITS:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise IndexError(at)
