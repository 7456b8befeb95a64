"""The source protocol: two methods, and what some sources can also do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from bridges.sources.options import ReadOptions
from bridges.stream.model import Run


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


class Part(Protocol):
    """A part of a location, of which a worker reads the runs; it can be pickled.

    `files` are all files that its runs are made of, and `size` is about how many bytes of them a
    reader holds at once (0: unknown). A file of a `neighbour` can decide names, and `names` is
    everything else that does.
    """

    @property
    def location(self) -> str:
        """The location that was split."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """Paths or URLs."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def neighbour(self) -> str | None:
        """The path of a file of another part."""
        ...

    @property
    def names(self) -> Sequence[Any]:
        """Plain values."""
        ...


@dataclass(frozen=True)
class FilePart:
    """A location that is one file, of which nothing else decides anything."""

    location: str
    neighbour: str | None = None
    names: Sequence[Any] = ()

    @property
    def files(self) -> Sequence[str]:
        """The file."""
        return (self.location,)

    @property
    def size(self) -> int:
        """The bytes of a local file, else 0."""
        return os.path.getsize(self.location) if os.path.isfile(self.location) else 0


@runtime_checkable
class Divides(Protocol):
    """A source that knows the files of its runs, and can read them in parts.

    A migration gives the parts to its workers, and reads a part again only if its files changed.
    Runs of other sources are read each time.
    """

    def split(self, location: str) -> Sequence[Part]:
        """The parts of a location, to be read in any order. Raises SourceError."""
        ...

    def read_part(self, part: Any, options: ReadOptions) -> Iterator[Run]:
        """The runs of a part that `split` gave. Raises SourceError."""
        ...
