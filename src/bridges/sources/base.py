"""The source protocol (two methods), and an optional protocol for reading in parts."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bridges.sources.options import ReadOptions
from bridges.stream.model import Run


class Source(Protocol):
    """Reads runs from a location (path, URL or `-`).

    Plug-ins register such a class under the entry point group `bridges.sources`. A source that
    gives `Evidence` of its own kinds lists these in an attribute `clocks`, a sequence of
    `EvidenceKind`; `--clock` then takes their names.
    """

    name: str

    def claims(self, location: str) -> bool:
        """Whether this source reads the location, judged by its name only."""
        ...

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs at the location, one at a time. Raises SourceError."""
        ...


class Part(Protocol):
    """A part of a location, which a worker reads on its own. It can be pickled.

    Run names may depend on the file of a `neighbour` part and on `names`.
    """

    @property
    def location(self) -> str:
        """The location before the split."""
        ...

    @property
    def files(self) -> Sequence[str]:
        """Paths or URLs of all files of its runs."""
        ...

    @property
    def size(self) -> int:
        """Approximate bytes in memory while reading; 0: unknown."""
        ...

    @property
    def neighbour(self) -> str | None:
        """Path of a file of another part, if run names depend on it."""
        ...

    @property
    def names(self) -> Sequence[object]:
        """Other plain values on which run names depend."""
        ...


@dataclass(frozen=True)
class FilePart:
    """A location that is a single file."""

    location: str
    neighbour: str | None = None
    names: Sequence[object] = ()

    @property
    def files(self) -> Sequence[str]:
        """The file."""
        return (self.location,)

    @property
    def size(self) -> int:
        """The size of a local file in bytes, else 0."""
        return os.path.getsize(self.location) if os.path.isfile(self.location) else 0


class FileSource(ABC):
    """Base class of sources that read a single file."""

    @abstractmethod
    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run of the file. Raises SourceError."""

    def split(self, location: str) -> list[FilePart]:
        """The file as the only part."""
        return [FilePart(location)]

    def read_part(self, part: FilePart, options: ReadOptions) -> Iterator[Run]:
        """The run of the file. Raises SourceError."""
        return self.read(part.location, options)


@runtime_checkable
class Divides(Protocol):
    """A source that knows the files of its runs and can read them in parts.

    A migration distributes the parts to its workers and reads a part again only if its files
    changed. Other sources are read each time.
    """

    def split(self, location: str) -> Sequence[Part]:
        """The parts of a location, which can be read in any order. Raises SourceError."""
        ...

    def read_part(self, part: object, options: ReadOptions) -> Iterator[Run]:
        """The runs of a part from `split`. Raises SourceError."""
        ...


@runtime_checkable
class Configured(Protocol):
    """A source whose files and parts depend on the reading options, as on formats of tables."""

    def configured(self, options: ReadOptions) -> Source:
        """The source with these options for all of its methods. Raises ConfigError."""
        ...


@runtime_checkable
class Selects(Protocol):
    """A source with its own selection of runs, by `ReadOptions.select` and `deleted`.

    Other sources read all runs; the others are left out afterwards.
    """

    selects: bool


@runtime_checkable
class Shares(Protocol):
    """A source that reads fewer runs of a tree beside certain others."""

    def among(self, others: Collection[str]) -> Source:
        """The source beside the sources of these names."""
        ...


@runtime_checkable
class Watched(Protocol):
    """A source whose locations can be followed by the sizes and times of their files.

    Of other sources, the files below a location are watched.
    """

    def files(self, location: str) -> Iterable[str] | None:
        """The files in which new rows of the runs at a location appear; None if it has no files.

        Raises SourceError.
        """
        ...
