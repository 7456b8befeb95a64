"""The transaction log of an offline W&B run: records of protocol buffers in a LevelDB log.

A file is a header of 7 bytes and blocks of 32 KiB; a record is one chunk, or several where it
crosses blocks. A chunk is CRC-32 (of type and data, little-endian), length, type and data. Field
numbers are those of wandb's `wandb_internal.proto`, which have not changed since 0.12.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32_768
_CHUNK = struct.Struct("<IHB")  # crc, length, type
_SMALL = [bytes([number]) for number in range(0x80)]
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
_SEEDS = {kind: zlib.crc32(bytes([kind])) for kind in (FULL, FIRST, MIDDLE, LAST)}


class LogError(ValueError):
    """The bytes are no whole transaction log; the message says where."""


def varint(number: int) -> bytes:
    """A number as protocol buffers write it; negative ones as 64 bits."""
    if 0 <= number < 0x80:
        return _SMALL[number]
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(field: int, content: bytes) -> bytes:
    """A field that holds bytes: a text or a message."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def text(field: int, content: str) -> bytes:
    """A field that holds a text."""
    return message(field, content.encode("utf-8", "replace"))


def integer(field: int, number: int) -> bytes:
    """A field that holds a number."""
    return varint(field << 3) + varint(number)


def write_log(records: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a log, in pieces."""
    pack, crc32, seed = _CHUNK.pack, zlib.crc32, _SEEDS[FULL]
    yield HEADER
    pieces: list[bytes] = []
    at, waiting = len(HEADER), 0
    for record in records:
        size = len(record)
        if at % BLOCK + 7 + size <= BLOCK:  # the usual case: whole in this block
            pieces += (pack(crc32(record, seed), size, FULL), record)
            at += 7 + size
        else:
            chunks = b"".join(_chunks(record, at))
            pieces.append(chunks)
            at += len(chunks)
        waiting += size
        if waiting > 1 << 20:
            yield b"".join(pieces)
            pieces, waiting = [], 0
    yield b"".join(pieces)


def _chunks(record: bytes, at: int) -> Iterator[bytes]:
    """A record as it lies across blocks, from a position in the file on."""
    start = 0
    while True:
        room = BLOCK - at % BLOCK
        if room < 7:  # no chunk begins there
            yield bytes(room)
            at, room = at + room, BLOCK
        data = record[start : start + room - 7]
        is_last = start + len(data) == len(record)
        kind = (FULL if is_last else FIRST) if start == 0 else (LAST if is_last else MIDDLE)
        yield _CHUNK.pack(zlib.crc32(data, _SEEDS[kind]), len(data), kind) + data
        if is_last:
            return
        start, at = start + len(data), at + 7 + len(data)


def read_log(data: bytes) -> Iterator[bytes]:
    """The records of a log. Raises LogError where it is damaged or ends within a record."""
    if data[: len(HEADER)] != HEADER:
        raise LogError("it does not begin as a W&B transaction log")
    at, parts = len(HEADER), b""
    while at < len(data):
        room = BLOCK - at % BLOCK
        if room < 7:
            at += room
            continue
        if at + 7 > len(data):
            raise LogError(f"it ends within a chunk at byte {at}")
        crc, size, kind = _CHUNK.unpack_from(data, at)
        content = data[at + 7 : at + 7 + size]
        if len(content) < size:
            raise LogError(f"it ends within a chunk at byte {at}")
        if kind not in _SEEDS or zlib.crc32(content, _SEEDS[kind]) != crc:
            raise LogError(f"the chunk at byte {at} is damaged")
        at += 7 + size
        parts = content if kind in (FULL, FIRST) else parts + content
        if kind in (FULL, LAST):
            yield parts
    if at > len(data):
        raise LogError("it ends within a record")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: numbers as int, texts and messages as bytes.

    Raises LogError for what is no message.
    """
    at = 0
    try:
        while at < len(data):
            tag, at = read_varint(data, at)
            kind = tag & 7
            if kind == 0:
                number, at = read_varint(data, at)
                yield tag >> 3, number
            elif kind == 2:
                size, at = read_varint(data, at)
                if at + size > len(data):
                    raise LogError("a message ends within a field")
                yield tag >> 3, data[at : at + size]
                at += size
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                raise LogError(f"a field has the unknown wire type {kind}")
    except IndexError:
        raise LogError("a message ends within a number") from None


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
