"""The log of W&B run files at the bounds of its blocks, and what is no such log."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from bridges.formats.wandb_log.batch import Batch
from bridges.formats.wandb_log.log import (
    BLOCK_BYTES,
    CHUNK_HEADER,
    FIRST,
    FULL,
    HEADER,
    LAST,
    MIDDLE,
    LogError,
    write_log,
)
from bridges.formats.wandb_log.reader import read_log


def batch(records: list[bytes]) -> Batch:
    """The same records with room for their headers."""
    data = b"".join(bytes(CHUNK_HEADER) + record for record in records)
    sizes = [CHUNK_HEADER + len(record) for record in records]
    return Batch(np.frombuffer(bytearray(data), np.uint8), np.cumsum(np.array(sizes, np.int64)))


def filling(room: int) -> bytes:
    """A first record that leaves so many bytes of its block."""
    return b"f" * (BLOCK_BYTES - len(HEADER) - CHUNK_HEADER - room)


def chunk(kind: int, content: bytes) -> bytes:
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + content), len(content), kind) + content


def kinds(data: bytes) -> list[tuple[int, int]]:
    """Kind and size of each chunk, found by the rules of LevelDB alone."""
    found, at = [], len(HEADER)
    while at < len(data):
        if BLOCK_BYTES - at % BLOCK_BYTES < CHUNK_HEADER:
            at += BLOCK_BYTES - at % BLOCK_BYTES
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        found.append((kind, size))
        at += CHUNK_HEADER + size
    return found


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("room", [*range(24), BLOCK_BYTES - len(HEADER) - CHUNK_HEADER])
def test_records_at_the_end_of_a_block(room: int, together: bool) -> None:
    records = [filling(room), b"abcdefgh", b"", b"r" * (2 * BLOCK_BYTES), b"end"]
    data = b"".join(write_log([batch(records)] if together else records))
    assert [*read_log(data)] == records
    order = [kind for kind, _ in kinds(data)]
    for kind, after in zip(order, [*order[1:], FULL], strict=True):
        assert (after in (MIDDLE, LAST)) == (kind in (FIRST, MIDDLE)), order


@pytest.mark.parametrize("together", [False, True])
def test_a_block_that_has_room_for_a_header_only_holds_an_empty_first_chunk(
    together: bool,
) -> None:
    """LevelDB goes on with the last chunk then; a whole record would be refused, or lost."""
    records = [filling(CHUNK_HEADER), b"abc"]
    data = b"".join(write_log([batch(records)] if together else records))
    assert kinds(data)[1:] == [(FIRST, 0), (LAST, 3)]


@pytest.mark.parametrize(
    "chunks",
    [
        [(FIRST, b""), (FULL, b"abc")],
        [(FIRST, b"a"), (FIRST, b"b"), (LAST, b"c")],
        [(FULL, b"a"), (MIDDLE, b"b")],
        [(LAST, b"a")],
        [(5, b"a")],
    ],
)
def test_chunks_out_of_order_are_damage(chunks: list[tuple[int, bytes]]) -> None:
    data = HEADER + b"".join(chunk(kind, content) for kind, content in chunks)
    with pytest.raises(LogError, match="is damaged"):
        [*read_log(data)]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not begin"),
        (b":W&C" + HEADER[4:], "does not begin"),
        (HEADER + chunk(FULL, b"abc")[:-1], "ends within a chunk at byte 7"),
        (HEADER + chunk(FULL, b"abc")[:5], "ends within a chunk at byte 7"),
        (HEADER + chunk(FIRST, b"abc"), "ends within a chunk at byte 7"),
        (HEADER + chunk(FULL, b"abc")[:-1] + b"x", "the chunk at byte 7 is damaged"),
    ],
)
def test_what_is_no_whole_log_is_told_with_its_place(data: bytes, why: str) -> None:
    with pytest.raises(LogError, match=why):
        [*read_log(data)]
