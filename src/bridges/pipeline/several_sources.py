"""A tree read by several sources, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bridges.errors import SourceError, TreeError
from bridges.sources.base import Divides, Part, Selects, Source, Watched
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.selection import selected
from bridges.stream.model import Run


@dataclass(frozen=True)
class PartOfSource:
    """A part of a location, with the position of its source."""

    source: int
    part: Part

    @property
    def location(self) -> str:
        """The location before the split."""
        return self.part.location

    @property
    def files(self) -> Sequence[str]:
        """Paths or URLs of all files of its runs."""
        return self.part.files

    @property
    def size(self) -> int:
        """Approximate bytes in memory while reading; 0: unknown."""
        return self.part.size

    @property
    def neighbour(self) -> str | None:
        """Path of a file of another part, if run names depend on it."""
        return self.part.neighbour

    @property
    def names(self) -> Sequence[object]:
        """Other plain values on which run names depend."""
        return self.part.names


class SeveralSources:
    """Reads a tree with each of its sources, which divide the directories among themselves."""

    selects = True

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self.name = ", ".join(source.name for source in sources)

    def claims(self, location: str) -> bool:
        """Whether one of the sources reads the location."""
        return any(source.claims(location) for source in self._sources)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs of all sources; errors are raised after the last readable run."""
        has_runs, errors = False, list[SourceError]()
        for source in self._sources:
            for run in _runs(source, location, options, errors):
                has_runs = True
                yield run
        if has_runs:  # a source without selected runs is not an error beside one with runs
            errors = [error for error in errors if not _has_nothing(error, location)]
        errors = _once(errors)
        if errors:
            raise errors[0] if len(errors) == 1 else TreeError(location, errors)

    def split(self, location: str) -> list[PartOfSource]:
        """The parts of all sources. Raises SourceError."""
        parts: list[PartOfSource] = []
        errors: list[SourceError] = []
        for position, source in enumerate(self._sources):
            found = _parts(source, location, errors)
            parts += (PartOfSource(position, part) for part in found)
        if errors and not parts:
            raise errors[0]
        return parts

    def read_part(self, part: object, options: ReadOptions) -> Iterator[Run]:
        """The runs of a part from `split`. Raises SourceError, TreeError."""
        assert isinstance(part, PartOfSource)
        source = self._sources[part.source]
        assert isinstance(source, Divides)
        return source.read_part(part.part, options)

    def files(self, location: str) -> list[str] | None:
        """The files of all sources; None if one has none."""
        found = [source.files(location) for source in self._sources if isinstance(source, Watched)]
        if None in found or len(found) < len(self._sources):
            return None
        return [path for files in found for path in files or ()]


def _runs(
    source: Source, location: str, options: ReadOptions, errors: list[SourceError]
) -> Iterator[Run]:
    """The selected runs of a source; its errors are added to `errors`."""
    try:
        runs = source.read(location, options)
        if options.select and not isinstance(source, Selects):
            runs = selected(runs, options.select)
        yield from runs
    except TreeError as error:
        errors += error.errors
    except SourceError as error:
        errors.append(error)


def _once(errors: Sequence[SourceError]) -> list[SourceError]:
    """The errors, with one for each directory that cannot be listed: all sources report it."""
    first: dict[object, SourceError] = {}
    for number, error in enumerate(errors):
        is_closed = os.path.isdir(error.source) and not isinstance(error, MissingSourceError)
        first.setdefault(os.path.normpath(error.source) if is_closed else number, error)
    return [*first.values()]


def _has_nothing(error: SourceError, location: str) -> bool:
    return isinstance(error, MissingSourceError) and error.source == location


def _parts(source: Source, location: str, errors: list[SourceError]) -> Sequence[Part]:
    """The parts of a source; if it has no selected run, the error is added to `errors`."""
    assert isinstance(source, Divides), source.name
    try:
        return source.split(location)
    except SourceError as error:
        if not _has_nothing(error, location):
            raise
        errors.append(error)
        return ()
