"""The transaction log of an offline W&B run: protobuf records in a LevelDB log.

A file is a header of 7 bytes and blocks of 32 KiB. A record is one chunk, or several if it crosses
blocks. A chunk is CRC-32 (of type and data, little-endian), length, type and data. The field
numbers are from wandb's `wandb_internal.proto` and have not changed since 0.12.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from bridges.formats.protobuf import read_varint, sized
from bridges.formats.wandb_log.batch import Batch, windows

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK_BYTES = 32_768
_CHUNK = struct.Struct("<IHB")  # crc, length, type
_HEADER = np.dtype([("crc", "<u4"), ("size", "<u2"), ("kind", "u1")])  # the same as a dtype
CHUNK_HEADER = _CHUNK.size  # bytes
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
SEEDS = {kind: zlib.crc32(bytes([kind])) for kind in (FULL, FIRST, MIDDLE, LAST)}


class LogError(ValueError):
    """The bytes are not a complete transaction log; the message names the position."""


def text(field: int, content: str) -> bytes:
    """A text field."""
    return sized(field, content.encode("utf-8", "replace"))


def write_log(records: Iterable[bytes | Batch]) -> Iterator[bytes | memoryview]:
    """The bytes of a log in pieces. A batch must have space for each record's chunk header."""
    yield HEADER
    at = len(HEADER)
    for record in records:
        pieces = _batch(record, at) if isinstance(record, Batch) else _record(record, at)
        for piece in pieces:
            at += len(piece)
            yield piece


def _record(record: bytes, at: int) -> Iterator[bytes]:
    """The chunks of a record at a file position."""
    if at % BLOCK_BYTES + CHUNK_HEADER + len(record) > BLOCK_BYTES:
        yield from _chunks(record, at)
    else:  # the usual case: the record fits into this block
        yield _CHUNK.pack(zlib.crc32(record, SEEDS[FULL]), len(record), FULL) + record


def _batch(batch: Batch, at: int) -> Iterator[bytes | memoryview]:
    """Many records from a file position on, in pieces of up to a block."""
    _put_headers(batch)
    data, start, done = batch.data.data, batch.start, 0
    while done < len(batch):
        first = int(start[done])
        fitting = int(
            np.searchsorted(batch.end, first + BLOCK_BYTES - at % BLOCK_BYTES, side="right")
        )
        if fitting > done:
            piece: bytes | memoryview = data[first : int(batch.end[fitting - 1])]
        else:
            fitting = done + 1
            record = data[first + CHUNK_HEADER : int(batch.end[done])].tobytes()
            piece = b"".join(_chunks(record, at))
        yield piece
        done, at = fitting, at + len(piece)


def _put_headers(batch: Batch) -> None:
    """Write the chunk header of each record for the case in which the record fits its block."""
    data, seed, crc32 = batch.data.data, SEEDS[FULL], zlib.crc32
    bounds = zip((batch.start + CHUNK_HEADER).tolist(), batch.end.tolist(), strict=True)
    headers = np.zeros(len(batch), _HEADER)
    headers["crc"] = [crc32(data[start:end], seed) for start, end in bounds]
    headers["size"] = (batch.end - batch.start - CHUNK_HEADER) & 0xFFFF
    headers["kind"] = FULL
    windows(batch.data, CHUNK_HEADER)[batch.start] = headers.view(f"S{CHUNK_HEADER}")


def _chunks(record: bytes, at: int) -> Iterator[bytes]:
    """The chunks of a record that crosses blocks, from a file position on.

    If a block has space for a header only, the first chunk is empty, as in LevelDB.
    """
    start, is_first = 0, True
    while True:
        room = BLOCK_BYTES - at % BLOCK_BYTES
        if room < CHUNK_HEADER:  # padding
            yield bytes(room)
            at, room = at + room, BLOCK_BYTES
        data = record[start : start + room - CHUNK_HEADER]
        is_last = start + len(data) == len(record)
        kind = (FULL if is_last else FIRST) if is_first else (LAST if is_last else MIDDLE)
        yield _CHUNK.pack(zlib.crc32(data, SEEDS[kind]), len(data), kind) + data
        if is_last:
            return
        start, at, is_first = start + len(data), at + CHUNK_HEADER + len(data), False


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: varints as int; texts, messages and fixed sizes as bytes.

    Raises LogError for bytes that are not a message.
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
                size = 8 if kind == 1 else 4
                if at + size > len(data):
                    raise LogError("a message ends within a field")
                yield tag >> 3, data[at : at + size]
                at += size
            else:
                raise LogError(f"a field has the unknown wire type {kind}")
    except IndexError:
        raise LogError(
            "a message ends within a number, or a number is longer than ten bytes"
        ) from None
