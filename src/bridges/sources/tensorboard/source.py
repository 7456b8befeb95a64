"""TensorBoard's event files as a source: the trainings in each directory, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from bridges.errors import SourceError, TreeError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.place import local_path
from bridges.sources.tensorboard.event_names import is_event_name, name_of
from bridges.sources.tensorboard.joining import groups
from bridges.sources.tensorboard.reading import UnitReader
from bridges.sources.tensorboard.runs import runs_of
from bridges.sources.tensorboard.units import TABLE_SUFFIXES, Unit, unit_of, units_at
from bridges.sources.trainer.discovery import unlisted as cannot_be_listed
from bridges.sources.trainer.locations import is_tree
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run


class TensorBoardSource:
    """Reads event files of TensorBoard (`*tfevents*`)."""

    name = "tensorboard"

    def claims(self, location: str) -> bool:
        """Whether it is an event file, by its name, or a directory with some."""
        place = local_path(location)
        if not is_tree(place):
            return is_event_name(name_of(place))
        return bool(units_at(location, {}))

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs at a location; errors are raised after the last readable run.

        Raises SourceError, or TreeError for several.
        """
        unlisted: dict[str, str] = {}
        reading = _Reading(location, options)
        yield from reading.runs(_units(location, unlisted))
        reading.end([cannot_be_listed(*each) for each in unlisted.items()])

    def split(self, location: str) -> list[Unit]:
        """The units of a location. Raises SourceError, TreeError."""
        unlisted: dict[str, str] = {}
        units = _units(location, unlisted)
        if not units:
            _Reading(location, ReadOptions()).end(
                [cannot_be_listed(*each) for each in unlisted.items()]
            )
        return units

    def read_part(self, part: object, options: ReadOptions) -> Iterator[Run]:
        """The runs of a part. Raises SourceError, TreeError."""
        assert isinstance(part, Unit)
        reading = _Reading(part.location, options)
        yield from reading.runs([part])
        reading.end(is_part=True)

    def files(self, location: str) -> list[str]:
        """The event files at a location."""
        return [path for unit in _units(location, {}) for path in unit.files]


class _Reading:
    """The reading of a location or a part of it."""

    def __init__(self, location: str, options: ReadOptions) -> None:
        self._location, self._options = location, options
        self._reader = UnitReader(options)
        self._known: dict[tuple[object, ...], str] = {}

    def runs(self, units: Iterable[Unit]) -> Iterator[Run]:
        """The runs of some units; files without points are noted at the next run."""
        for unit, contents in self._reader.contents(units):
            found = groups(unit, contents, self._options.division)
            runs = [run for group in found for run in runs_of(group, self._options)]
            for run in _with_tables(runs, unit, self._options):
                notes = self._notes(run)
                yield replace(run, findings=(*run.findings, *notes)) if notes else run

    def _notes(self, run: Run) -> list[Finding]:
        """Notes about files without points, and about a copy of an earlier run."""
        notes = self._reader.notes(self._location)
        first = self._known.setdefault(run.identity or (run.source,), run.source)
        if first != run.source and "superseded" not in run.name:
            message = f"it begins with the same point as {first}: a target holds them as one run"
            notes.append(Finding("run-twice", Severity.INFO, run.source, message))
        return notes

    def end(self, errors: Iterable[SourceError] = (), *, is_part: bool = False) -> None:
        """Raises the errors; without any, MissingSourceError for a location without runs."""
        found = [*self._reader.errors, *errors]
        if not (self._known or found or is_part):
            found.append(self._no_runs())
        if found:
            raise found[0] if len(found) == 1 else TreeError(self._location, found)

    def _no_runs(self) -> SourceError:
        empty = len(self._reader.empty)
        found = "no event files"
        if empty:
            found = f"{empty} event file{'s' * (empty > 1)} without any points"
        return MissingSourceError(
            self._location,
            found=found,
            expected="event files with scalars or texts",
            remedy="Check which directory the training logged to.",
        )


def _units(location: str, unlisted: dict[str, str]) -> list[Unit]:
    place = local_path(location)
    return units_at(location, unlisted) if is_tree(place) else [unit_of(place)]


def _with_tables(runs: Sequence[Run], unit: Unit, options: ReadOptions) -> Iterator[Run]:
    """The runs with the tables in their directories; tables of other runs come last."""
    found = unit.folders
    has_tables = any(name.endswith(TABLE_SUFFIXES) for each in found for name in each.files)
    if not (has_tables or options.tables):
        yield from runs
        return
    from bridges.sources.tables.beside import with_tables  # not needed for most runs

    yield from with_tables(runs, found, unit.location, options)
