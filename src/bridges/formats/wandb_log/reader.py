"""Reads the transaction log of a W&B run in pieces of bounded size, every checksum checked."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bridges.formats.wandb_log.log import (
    BLOCK_BYTES,
    CHUNK_HEADER,
    FULL,
    HEADER,
    LAST,
    MIDDLE,
    SEEDS,
    LogError,
)
from bridges.stream.model import Int64

PIECE_BYTES = 64 * BLOCK_BYTES  # 2 MiB, which stays in the processor's cache
PADDING = bytes(64)  # behind each piece: readers of many positions look ahead
_CHUNK = struct.Struct("<IHB")  # crc, length, type


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


@dataclass(frozen=True)
class Records:
    """n records in `data`, in the order of the log, by start and end (int64, n)."""

    data: bytes
    start: Int64
    end: Int64

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[bytes]:
        for start, end in zip(self.start.tolist(), self.end.tolist(), strict=True):
            yield self.data[start:end]


@dataclass(frozen=True)
class Gap:
    """Bytes of a log without a readable record: from `start` to before `stop`.

    `is_cut`: a record goes on beyond the end of its block or of the log.
    """

    start: int
    stop: int
    is_cut: bool

    def __str__(self) -> str:
        if self.is_cut:
            return f"it ends within a chunk at byte {self.start}"
        return f"the chunk at byte {self.start} is damaged"


class LogReader:
    """Reads the records of a log. `gaps` has its unreadable parts, complete after the last piece.

    Behind a damaged chunk, reading goes on at the next block of 32 KiB.
    """

    def __init__(self, file: Readable, piece_bytes: int = PIECE_BYTES) -> None:
        self._file, self._piece_bytes = file, piece_bytes
        self.gaps: list[Gap] = []
        self.size = 0  # bytes read so far
        self._parts: list[bytes] = []  # the chunks so far of a record that crosses blocks
        self._open_at: int | None = None  # the position of its first chunk
        self._is_skipping = False  # the rest of a damaged record

    @property
    def damages(self) -> list[Gap]:
        """The gaps with records behind them."""
        return [gap for gap in self.gaps if gap.stop < self.size]

    @property
    def torn(self) -> Gap | None:
        """The gap at the end of the log, as left by a killed writer."""
        return self.gaps[-1] if self.gaps and self.gaps[-1].stop == self.size else None

    def pieces(self) -> Iterator[Records]:
        """The records, piece by piece. Raises LogError if the file does not begin as a log."""
        if read_fully(self._file, len(HEADER)) != HEADER:
            raise LogError("it does not begin as a W&B transaction log")
        self.size = len(HEADER)
        while data := read_fully(self._file, self._piece_bytes - self.size % self._piece_bytes):
            offset, self.size = self.size, self.size + len(data)
            yield self._piece(data, offset)
        if self._open_at is not None:
            self.gaps.append(Gap(self._open_at, self.size, is_cut=True))

    def records(self) -> Iterator[bytes]:
        """All records. Raises LogError for a log with a gap, after the records before it."""
        for piece in self.pieces():
            yield from piece
            if self.gaps:
                break
        if self.gaps:
            raise LogError(str(self.gaps[0]))

    def _piece(self, data: bytes, offset: int) -> Records:
        """The records in data from a file position on.

        Records across blocks are appended behind the data.
        """
        starts: list[int] = []
        ends: list[int] = []
        joined: list[bytes] = []
        joined_end, size = len(data), len(data)
        unpack, crc32, seed = _CHUNK.unpack_from, zlib.crc32, SEEDS[FULL]
        add_start, add_end = starts.append, ends.append
        at, is_closed = 0, self._open_at is None and not self._is_skipping
        for block_end in range(BLOCK_BYTES - offset % BLOCK_BYTES, size + BLOCK_BYTES, BLOCK_BYTES):
            stop = min(block_end, size)
            while at + CHUNK_HEADER <= stop:
                crc, length, kind = unpack(data, at)
                start = at + CHUNK_HEADER
                end = start + length
                content = data[start:end]
                if kind == FULL and is_closed and end <= stop and crc32(content, seed) == crc:
                    add_start(start)  # the usual case
                    add_end(end)
                elif not self._takes(kind, content, crc, offset + at, offset + stop):
                    self._skip(offset + at, offset + stop, is_cut=end > stop)
                    end, is_closed = stop, False
                else:
                    is_closed = self._open_at is None
                    if kind == LAST and self._parts:
                        joined.append(b"".join(self._parts))
                        self._parts = []
                        add_start(joined_end)
                        joined_end += len(joined[-1])
                        add_end(joined_end)
                    elif kind == FULL:
                        add_start(start)
                        add_end(end)
                at = end
            if at < stop < block_end:  # less than the header of a chunk, at the end of the log
                self._skip(offset + at, offset + stop, is_cut=True)
            at = stop
        text = b"".join([data, *joined, PADDING])
        return Records(text, np.array(starts, np.int64), np.array(ends, np.int64))

    def _takes(self, kind: int, content: bytes, crc: int, at: int, stop: int) -> bool:
        """Take a chunk of a record that crosses blocks, or the first one behind a gap.

        False if it is cut, damaged or out of order.
        """
        end = at + CHUNK_HEADER + len(content)
        if end > stop or kind not in SEEDS or zlib.crc32(content, SEEDS[kind]) != crc:
            return False
        is_begun = kind in (MIDDLE, LAST)
        if is_begun and self._is_skipping:
            self.gaps[-1] = replace(self.gaps[-1], stop=end)
            return True
        if is_begun != (self._open_at is not None):
            return False
        self._is_skipping = False
        if kind != FULL:
            self._open_at = self._open_at if is_begun else at
            self._parts.append(content)
        if kind == LAST:
            self._open_at = None
        return True

    def _skip(self, at: int, stop: int, *, is_cut: bool) -> None:
        """Note a gap from a position, or from an open record, to the end of the block."""
        start = at if self._open_at is None else self._open_at
        if self._is_skipping:
            start, is_cut = self.gaps[-1].start, self.gaps[-1].is_cut
            self.gaps.pop()
        self.gaps.append(Gap(start, stop, is_cut))
        self._parts, self._open_at, self._is_skipping = [], None, True


def read_log(data: bytes) -> Iterator[bytes]:
    """The records of a log. Raises LogError if it is damaged or ends within a record."""
    return LogReader(io.BytesIO(data)).records()


def read_fully(file: Readable, size: int) -> bytes:
    """The next `size` bytes, or fewer at the end of the file; streams may return them in parts."""
    data = file.read(size)
    if not data or len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
