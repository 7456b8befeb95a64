"""The source protocol: two methods, and the options that every source understands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from bridges.stream.model import Run


@dataclass(frozen=True)
class ReadOptions:
    """How to read: `salvage` reads a truncated file up to its last whole row, `redact_home` masks
    home directories in params (those in facts and locations always are).

    `max_unpacked` is how many bytes a gzip file may unpack to, where that is more than usual.

    `fill_from_events` adds the rows that only the event files of a run hold.

    A run that is `growing` may get more rows: nothing is put behind those of its history.
    """

    salvage: bool = False
    growing: bool = False
    redact_home: bool = False
    fill_from_events: bool = False
    max_unpacked: int | None = None


class Source(Protocol):
    """Something that turns a location (path, URL or `-`) into runs.

    Plug-ins register a class of this shape under the entry point group `bridges.sources`.
    """

    name: str

    def claims(self, location: str) -> bool:
        """Whether this source reads that location, judged by its name alone."""
        ...

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs found there, one at a time. Raises SourceError."""
        ...
