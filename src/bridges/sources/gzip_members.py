"""Gzip data unpacked within a bound: a few bytes may stand for gigabytes, and hold many members."""

from __future__ import annotations

import zlib

RATIO = 100  # real logs unpack to 5 to 40 times their size
FREE = 64 << 20  # bytes that any file may unpack to
LARGEST = 4 << 30  # bytes that no file may unpack to, unless that is asked for
_FIRST, _NEXT = 512, 1 << 20  # bytes of a member that are read at first, and at once


class TooLargeError(ValueError):
    """The data unpack to more bytes than they may."""


def bound_of(size: int) -> int:
    """How many bytes a gzip file of that size may unpack to."""
    return min(max(RATIO * size, FREE), LARGEST)


def gunzip(data: bytes, most: int) -> tuple[bytes, bool]:
    """The bytes of all members, and whether the last one is there to its end. Zeros may follow it.

    Raises TooLargeError where they are more than `most`, and zlib.error for what is broken.
    """
    parts: list[bytes] = []
    room, at, end = most, 0, len(data.rstrip(b"\0"))
    while at < end:
        stream, step = zlib.decompressobj(wbits=31), _FIRST
        while not stream.eof:
            if at >= len(data):
                return b"".join(parts), False
            piece = data[at : at + step]
            at, step = at + len(piece), min(2 * step, _NEXT)
            parts.append(stream.decompress(piece, room + 1))
            room -= len(parts[-1])
            if room < 0:
                raise TooLargeError(most)
        at -= len(stream.unused_data)
    return b"".join(parts), True
