"""Decompresses gzip data within a size limit: a few bytes can expand to gigabytes."""

from __future__ import annotations

import zlib

MAX_RATIO = 100  # real logs unpack to 5 to 40 times their size
FREE_BYTES = 64 << 20  # allowed whatever the ratio
MAX_UNPACKED_BYTES = 4 << 30  # default limit whatever the ratio
_FIRST_BYTES, _MAX_PIECE_BYTES = 512, 1 << 20  # of a member: first piece, largest piece


class TooLargeError(ValueError):
    """The data unpack to more bytes than the limit."""


def bound_of(size: int) -> int:
    """The default limit in bytes for a gzip file of `size` bytes."""
    return min(max(MAX_RATIO * size, FREE_BYTES), MAX_UNPACKED_BYTES)


def gunzip(data: bytes, most: int) -> tuple[bytes, bool]:
    """The bytes of all members, and whether the last member is complete. Zeros may follow it.

    Raises TooLargeError for more than `most` bytes, and zlib.error for corrupt data.
    """
    parts: list[bytes] = []
    room, at, end = most, 0, len(data.rstrip(b"\0"))
    while at < end:
        stream, step = zlib.decompressobj(wbits=31), _FIRST_BYTES
        while not stream.eof:
            if at >= len(data):
                return b"".join(parts), False
            piece = data[at : at + step]
            at, step = at + len(piece), min(2 * step, _MAX_PIECE_BYTES)
            parts.append(stream.decompress(piece, room + 1))
            room -= len(parts[-1])
            if room < 0:
                raise TooLargeError(most)
        at -= len(stream.unused_data)
    return b"".join(parts), True
