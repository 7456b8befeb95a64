"""Tables as a source: the runs in CSV, TSV and JSON lines of loggers."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridges.errors import SourceError, TreeError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.folders import Claim, Folder, folder_at, folders
from bridges.sources.notes import with_notes
from bridges.sources.options import ReadOptions
from bridges.sources.place import TABLE_NAME, local_path
from bridges.sources.tables.claims import claim_by, has_events, is_table
from bridges.sources.tables.own_formats import formats_of, in_trees
from bridges.sources.tables.paths import is_url
from bridges.sources.tables.run_names import name_of
from bridges.sources.tables.runs import runs_of, without_rows
from bridges.sources.tables.text import EXPECTED, empty, load
from bridges.sources.tables.units import (
    TABLE_SUFFIXES,
    Found,
    Unit,
    named_table,
    tables_in,
)
from bridges.sources.trainer.discovery import unlisted
from bridges.sources.trainer.locations import is_tree
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import run_key
from bridges.stream.model import Run

SETTINGS_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class TablePart:
    """The tables of a directory, or a single one, for a worker."""

    location: str
    folder: Folder | None
    options: ReadOptions
    neighbour: str | None = None

    @property
    def files(self) -> Sequence[str]:
        """The tables, and the files of settings beside them."""
        if self.folder is None:
            return (self.location,)
        return _files_of(self.folder, self.options)

    @property
    def size(self) -> int:
        """The size of its local files in bytes."""
        return sum(os.path.getsize(path) for path in self.files if os.path.isfile(path))

    @property
    def names(self) -> Sequence[object]:
        """The location, on which the names of its runs depend."""
        return (self.location,)


class TablesSource:
    """Reads tables of loggers: CSV, TSV and JSON lines.

    `shared`: the source of event files reads the tables beside these.
    """

    name = "tables"

    def __init__(self, options: ReadOptions | None = None, *, shared: bool = False) -> None:
        self._options, self._shared = options or ReadOptions(), shared

    def configured(self, options: ReadOptions) -> TablesSource:
        """The source with the formats of the options. Raises ConfigError."""
        formats_of(options)
        return TablesSource(options)

    def among(self, others: Collection[str]) -> TablesSource:
        """The source without the tables that one of the others reads."""
        return TablesSource(self._options, shared="tensorboard" in others)

    def claims(self, location: str) -> bool:
        """Whether it is named like a table, or a directory with one."""
        if is_tree(location):
            claims = _claims(self._options, shared=self._shared)
            return any(folder.source == self.name for folder in folders(location, claim=claims))
        return TABLE_NAME.search(location) is not None or is_table(location, self._options)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs at a location; errors are raised after the last readable run.

        Raises SourceError, or TreeError for several.
        """
        location = local_path(location)
        reading = _Reading(location, options)
        runs = reading.tree(shared=self._shared) if is_tree(location) else reading.file()
        yield from with_notes(runs, reading.notes)
        reading.end()

    def split(self, location: str) -> list[TablePart]:
        """The parts of a location: one for each directory with tables. Raises SourceError."""
        location = local_path(location)
        if not is_tree(location):
            return [TablePart(location, None, self._options)]
        found = _folders(location, self._options, {}, shared=self._shared)
        return [TablePart(location, folder, self._options) for folder in found]

    def read_part(self, part: object, options: ReadOptions) -> Iterator[Run]:
        """The runs of a part. Raises SourceError, TreeError."""
        assert isinstance(part, TablePart)
        reading = _Reading(part.location, options)
        runs = reading.file() if part.folder is None else reading.folder(part.folder)
        yield from with_notes(runs, reading.notes)
        reading.end(is_part=part.folder is not None)

    def files(self, location: str) -> list[str]:
        """The tables at a location, and the files of settings beside them."""
        parts = self.split(location)
        return [path for part in parts for path in part.files]


def _claims(options: ReadOptions, *, shared: bool) -> Mapping[str, Claim]:
    """The claim of directories with tables; `shared`: not of those with event files."""
    claim = {TablesSource.name: claim_by(options, shared=shared)}
    return claim if shared else {"tensorboard": lambda folder: None, **claim}


def _folders(
    location: str, options: ReadOptions, missing: dict[str, str], *, shared: bool
) -> list[Folder]:
    """The directories of tables; without any, all directories with files."""
    claims = _claims(options, shared=shared)
    found = list(folders(location, missing, claims))
    own = [folder for folder in found if folder.source == TablesSource.name]
    return own or [folder for folder in found if folder.files]


def _files_of(folder: Folder, options: ReadOptions) -> list[str]:
    """The files of a directory from which its runs are read."""
    suffixes = (*TABLE_SUFFIXES, *SETTINGS_SUFFIXES, ".log", ".jsonl", ".ndjson", ".gz")
    own = [folder.join(name) for name in folder.files if name.endswith(suffixes)]
    units = tables_in(folder, in_trees(options)).units
    return [*dict.fromkeys((*own, *(path for unit in units for path in unit.paths)))]


@dataclass
class _Reading:
    """The reading of a location: its errors, and notes about files without a run."""

    location: str
    options: ReadOptions
    errors: list[SourceError] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    runs: int = 0
    _sources: dict[str, str] = field(default_factory=dict)  # of the runs read, by key

    def __post_init__(self) -> None:
        self._formats, self._chosen = formats_of(self.options)
        self._in_trees = in_trees(self.options)

    def tree(self, *, shared: bool) -> Iterator[Run]:
        """The runs of all directories; those that cannot be listed become errors."""
        missing: dict[str, str] = {}
        for folder in _folders(self.location, self.options, missing, shared=shared):
            yield from self.folder(folder)
        self.errors += [unlisted(path, why) for path, why in missing.items()]

    def folder(self, folder: Folder) -> Iterator[Run]:
        """The runs of the tables in a directory; unreadable ones become errors."""
        found = tables_in(folder, self._in_trees)
        self.errors += found.errors
        self.notes += [*_left_out(folder, found), *_beside_events(folder, found.units)]
        for unit in found.units:
            yield from self._runs(unit)

    def _runs(self, unit: Unit) -> Iterator[Run]:
        """The runs of a unit; an error is kept."""
        try:
            for run in runs_of(unit, name_of(unit, self.location), self.options):
                yield self._counted(run)
        except MissingSourceError as error:
            self.notes.append(without_rows(error))
        except SourceError as error:
            self.errors.append(error)

    def file(self) -> Iterator[Run]:
        """The runs of a single table. Raises SourceError."""
        text = load(self.location, self.options)
        unit = named_table(self.location, self._formats, self._chosen, text.data)
        folder = None if self.location == "-" or is_url(unit.folder) else folder_at(unit.folder)
        self.notes += _beside_events(folder, [unit]) if folder else []
        for run in runs_of(unit, name_of(unit, self.location), self.options, text):
            yield self._counted(run)

    def _counted(self, run: Run) -> Run:
        """The run, with a note about an earlier one of the same first row."""
        self.runs += 1
        first = self._sources.setdefault(run_key(run), run.source)
        if first == run.source:
            return run
        message = f"it begins with the same row as {first}: a target holds them as one run"
        note = Finding("run-twice", Severity.INFO, run.source, message)
        return replace(run, findings=(note, *run.findings))

    def end(self, *, is_part: bool = False) -> None:
        """Raises the errors; without any, MissingSourceError if no run was read."""
        if not (self.runs or self.errors or is_part):
            self.errors.append(self._nothing())
        if self.errors:
            one = len(self.errors) == 1
            raise self.errors[0] if one else TreeError(self.location, self.errors)

    def _nothing(self) -> MissingSourceError:
        found = "; ".join(f"{note.message} ({note.where})" for note in self.notes)
        if {note.code for note in self.notes} == {"table-empty"}:
            return empty(self.location, found)
        return MissingSourceError(
            self.location,
            found=found or "no table that is certainly a log of a training",
            expected=EXPECTED,
            remedy="Name the file itself, or give its format with --format.",
        )


def _beside_events(folder: Folder, units: Sequence[Unit]) -> list[Finding]:
    """A note about event files beside tables, which may be of the same training."""
    if not (units and has_events(folder, units)):
        return []
    message = (
        "event files lie beside these tables, which are exported alone. If both are of one "
        "training, export their directory without --source: then they are one run"
    )
    return [Finding("table-beside-events", Severity.INFO, folder.path, message, len(units))]


def _left_out(folder: Folder, found: Found) -> list[Finding]:
    """Notes about the unread files of a directory."""
    notes = []
    if found.empty:
        message = "empty tables: no run"
        where, count = ", ".join(found.empty[:3]), len(found.empty)
        notes.append(Finding("table-empty", Severity.INFO, where, message, count))
    if found.uncertain:
        message = "tables that are not certainly logs of a training: name the file to export it"
        where, count = ", ".join(found.uncertain[:3]), len(found.uncertain)
        notes.append(Finding("table-uncertain", Severity.INFO, where, message, count))
    return notes
