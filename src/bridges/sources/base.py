"""The source protocol: two methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from bridges.sources.options import ReadOptions as ReadOptions
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
