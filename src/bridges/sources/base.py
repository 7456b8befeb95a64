"""The source protocol: two methods, and the options that every source understands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from bridges.option import Option, Options

if TYPE_CHECKING:
    from bridges.stream.model import Run  # slow to import


@dataclass(frozen=True)
class ReadChoices(Options):
    """What a user chooses of how runs are read."""

    salvage: Annotated[bool, Option("Read a truncated file up to its last complete row.")] = False
    redact_home: Annotated[bool, Option("Mask home directories in params, too.")] = False
    fill_from_events: Annotated[
        bool,
        Option(
            "Add rows of a finished training that only its event files contain, where they fit."
        ),
    ] = False
    max_unpacked: Annotated[
        int | None,
        Option(
            "Maximum size of an unpacked gzip file, in bytes.",
            unset="100 times its packed size, or 64 MiB",
            metavar="BYTES",
            at_least=1,
        ),
    ] = None


@dataclass(frozen=True)
class ReadOptions(ReadChoices):
    """How to read. `growing`: the run may still get rows, so results files are not appended."""

    growing: bool = False


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
