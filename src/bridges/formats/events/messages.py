"""Parses one record of an event file as protobuf into the positions of its fields.

Unknown fields, and known fields of another wire type, are skipped, as protobuf readers do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from bridges.formats.protobuf import read_varint

MAX_COLUMNAR_SCALARS = 1000  # of a record; with more, columns take more memory than objects
# protobuf keys of the fields: number * 8 + wire type
WALL_TIME, STEP, FILE_VERSION, SUMMARY = 9, 16, 26, 42  # in an event
VALUE = 10  # in a summary
TAG, SIMPLE_VALUE, TENSOR = 10, 21, 66  # in a value
STRING = 66  # in a tensor


@dataclass(slots=True)
class Event:
    """A parsed record.

    Offsets into its data: `wall_time`, `step` (with its size) and `scalars` (by tag); -1: absent.
    """

    wall_time: int = -1
    step: tuple[int, int] = (-1, -1)
    scalars: list[tuple[str, int]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    file_version: str | None = None

    def is_columnar(self) -> bool:
        """Whether records of this shape can be read as columns."""
        has_all = self.wall_time >= 0 and self.step[0] >= 0
        return has_all and not self.texts and 0 < len(self.scalars) <= MAX_COLUMNAR_SCALARS


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Key, offset and end of each field of a message (a varint's bytes, or the payload).

    Raises IndexError for bytes that are not a message.
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


def parse_event(data: bytes) -> Event:
    """The event in a record's data; an empty one if the data are not an event."""
    event = Event()
    try:
        for key, at, end in _fields(data, 0, len(data)):
            if key == WALL_TIME:
                event.wall_time = at
            elif key == STEP:
                event.step = (at, end - at)
            elif key == FILE_VERSION:
                event.file_version = data[at:end].decode()
            elif key == SUMMARY:
                _parse_summary(event, data, at, end)
    except (IndexError, UnicodeDecodeError):
        return Event()  # its CRC is right, but it is not an event: a comparison misses its points
    return event


def _parse_summary(event: Event, data: bytes, start: int, stop: int) -> None:
    for key, at, end in _fields(data, start, stop):
        if key != VALUE:
            continue
        parts = {part: (a, e) for part, a, e in _fields(data, at, end)}
        tag_at, tag_end = parts.get(TAG, (0, 0))
        tag = data[tag_at:tag_end].decode()
        if SIMPLE_VALUE in parts:
            event.scalars.append((tag, parts[SIMPLE_VALUE][0]))
        elif TENSOR in parts:
            strings = (data[a:e] for part, a, e in _fields(data, *parts[TENSOR]) if part == STRING)
            event.texts += [(tag, text.decode()) for text in islice(strings, 1)]
