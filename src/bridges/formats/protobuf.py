"""Protocol buffer encoding, shared by event files and W&B logs."""

from __future__ import annotations

import struct
from collections.abc import Iterator

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


def fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Key (number * 8 + wire type), offset and end of each field of a message in [start, end).

    A field is the bytes of a varint or of a fixed number, or a payload. Raises IndexError for bytes
    that are not a message.
    """
    at = start
    while at < end:
        key, at = (data[at], at + 1) if data[at] < 0x80 else read_varint(data, at)
        wire = key & 7
        if wire == 2:
            size, at = (data[at], at + 1) if data[at] < 0x80 else read_varint(data, at)
            stop = at + size
        elif wire == 0:
            stop = at + 1 if data[at] < 0x80 else read_varint(data, at)[1]
        elif wire in (1, 5):
            stop = at + (8 if wire == 1 else 4)
        else:
            raise IndexError(at)
        if stop > end:
            raise IndexError(at)
        yield key, at, stop
        at = stop
