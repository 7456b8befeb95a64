"""MLflow as a source: the runs of file stores, databases and servers, one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby

from bridges.errors import SourceError, TreeError
from bridges.formats.mlflow_store.records import ACTIVE, RunHead
from bridges.sources.fetch import MissingSourceError
from bridges.sources.mlflow.experiment_names import with_distinct_names
from bridges.sources.mlflow.families import Nested, families
from bridges.sources.mlflow.location import StoreLocation, files_of, stores_at
from bridges.sources.mlflow.opening import open_store
from bridges.sources.mlflow.runs import run_of
from bridges.sources.mlflow.store import MarksRuns, Store
from bridges.sources.options import ReadOptions
from bridges.sources.place import is_address
from bridges.sources.selection import Selection
from bridges.sources.trainer.discovery import unlisted
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run

RUNS_PER_PART = 64
DEFAULT_EXPERIMENT = "Default"
Group = tuple[list[Nested], list[Finding]]  # runs, and notes for the first of them


@dataclass(frozen=True)
class RunsPart:
    """Some runs of a store for a worker: nested runs come with the runs around them.

    If each run has a mark, the marks are compared instead of files. The first run gets the `notes`.
    `errors` are those of runs and stores that cannot be read.
    """

    location: str
    store: StoreLocation
    runs: tuple[Nested, ...]
    notes: tuple[Finding, ...] = ()
    errors: tuple[SourceError, ...] = ()
    size: int = 0
    neighbour: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files of its runs without artifacts, or the address of their store."""
        if self.names:
            return ()
        if self.store.kind != "files":
            return (self.store.address,)
        return tuple(file for nested in self.runs for file in files_of(nested.head.where))

    @property
    def names(self) -> tuple[object, ...]:
        """The marks of its runs, which change with them."""
        marks = [(nested.head.run_id, nested.head.mark) for nested in self.runs]
        return tuple(marks) if all(mark for _, mark in marks) else ()


class MlflowSource:
    """Reads MLflow stores: mlruns, databases, tracking servers."""

    name = "mlflow"
    selects = True

    def __init__(self, options: ReadOptions | None = None) -> None:
        self._options = options or ReadOptions()

    def configured(self, options: ReadOptions) -> MlflowSource:
        """The source whose parts have the selected runs only."""
        return MlflowSource(options)

    def claims(self, location: str) -> bool:
        """Whether it is the address of a database or server, or a directory with a store."""
        is_folder = os.path.isdir(location)
        return is_address(location) or (is_folder and next(stores_at(location), None) is not None)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs of all stores at a location; errors are raised after the last readable run.

        Raises SourceError, or TreeError for several.
        """
        reading = _Reading(options)
        for place in reading.stores(location):
            yield from reading.store(place)
        reading.end(location)

    def files(self, location: str) -> list[str] | None:
        """The files of the stores at a location; None for servers and their databases."""
        found = [store.files() for store in stores_at(location)]
        if None in found:
            return None
        return [path for files in found for path in files or ()]

    def split(self, location: str) -> list[RunsPart]:
        """The parts of the selected runs at a location; errors are in the last part.

        Raises MissingSourceError if no run is selected.
        """
        reading = _Reading(self._options)
        places = reading.stores(location)
        parts = [part for place in places for part in reading.parts(location, place)]
        if not places:
            reading.end(location)
        if errors := reading.errors(location, is_empty=not parts):
            parts.append(RunsPart(location, places[0], (), errors=errors))
        return parts

    def read_part(self, part: object, options: ReadOptions) -> Iterator[Run]:
        """The selected runs of a part. Raises SourceError, TreeError."""
        assert isinstance(part, RunsPart)
        reading = _Reading(options)
        yield from reading.part(part)
        reading.end(part.location, is_part=True)


class _Reading:
    """The reading of one or more stores: the options, and the errors and counts so far."""

    def __init__(self, options: ReadOptions) -> None:
        self._selection, self._deleted = Selection.of(options.select), options.deleted
        self._redact_home, self._growing = options.redact_home, options.growing
        self._errors: list[SourceError] = []
        self._read = self._unselected = self._in_trash = 0

    def stores(self, location: str) -> list[StoreLocation]:
        """The stores at a location; parts of it that cannot be read become errors.

        Raises MissingSourceError for a readable location without a store.
        """
        unreadable: dict[str, str] = {}
        found = [*stores_at(location, unreadable)]
        self._errors += [_refused(*each) for each in unreadable.items()]
        if not found and not self._errors:
            raise MissingSourceError(
                location,
                found="no MLflow store",
                expected="a directory such as mlruns, a database, or the URL of a tracking server",
                remedy="Name the directory of the experiments, or use sqlite:///FILE, "
                "postgresql://… or mlflow+https://HOST.",
            )
        return found

    def store(self, place: StoreLocation) -> Iterator[Run]:
        """The selected runs of a store."""
        return self._with_notes(place, lambda store: self._selected(store, place))

    def part(self, part: RunsPart) -> Iterator[Run]:
        """The selected runs of a part."""
        self._errors += part.errors
        chosen = [nested for nested in part.runs if self._takes(nested.head, part.store)]
        if chosen:
            yield from self._with_notes(part.store, lambda store: [(chosen, [*part.notes])])

    def _with_notes(
        self, place: StoreLocation, groups: Callable[[Store], Iterable[Group]]
    ) -> Iterator[Run]:
        """The runs of some groups; the first one of each has its notes."""
        try:
            store = open_store(place, is_growing=self._growing)
            notes: list[Finding] = []
            for chosen, more in groups(store):
                notes += more
                for run in self._runs(store, place, chosen):
                    yield replace(run, findings=(*notes, *run.findings)) if notes else run
                    notes = []
                    del run  # it may be large, and the next one is read now
            self._errors += store.errors
        except SourceError as error:
            self._errors.append(error)

    def parts(self, location: str, place: StoreLocation) -> Iterator[RunsPart]:
        """The parts of a store: families of runs, which are not read yet."""
        try:
            store = open_store(place)
            for chosen, notes in self._selected(store, place):
                for runs in _in_parts(chosen):
                    yield RunsPart(location, place, _marked(store, runs), tuple(notes))
                    notes = []
            self._errors += store.errors
        except SourceError as error:
            self._errors.append(error)

    def _selected(self, store: Store, place: StoreLocation) -> Iterator[Group]:
        """The selected runs of each experiment, with notes about the others.

        An experiment without selected runs only adds its notes to those of the one before it.
        """
        chosen: list[Nested] = []
        notes = _not_carried(store)
        for experiment, runs in _experiments(store, place):
            taken = [nested for nested in runs if self._takes(nested.head, place)]
            if chosen and taken:
                yield chosen, notes
                chosen, notes = [], []
            chosen = taken or chosen
            notes = notes + self._left_out(runs, len(taken))
            if not runs and self._selection.takes_experiment(experiment):
                notes += _without_runs(experiment)
        yield chosen, notes

    def _runs(self, store: Store, place: StoreLocation, chosen: list[Nested]) -> Iterator[Run]:
        """The readable runs of some; the others become errors."""
        for nested in chosen:
            try:
                run = self._run(store, place, nested)
            except SourceError as error:
                self._errors.append(error)
                continue
            self._read += 1
            yield run
            del run

    def _run(self, store: Store, place: StoreLocation, nested: Nested) -> Run:
        """One run. Raises SourceError."""
        record, metrics = store.read(nested.head)
        if nested.parent_key:
            record = replace(record, parent_key=nested.parent_key)
        return run_of(
            record,
            metrics,
            place.source_of(nested.head),
            nested.parents,
            has_children=nested.has_children,
            redact_home=self._redact_home,
        )

    def _takes(self, head: RunHead, place: StoreLocation) -> bool:
        if place.run not in (None, head.run_id) or (head.stage != ACTIVE and not self._deleted):
            return False
        if not self._selection.takes_experiment(head.experiment.name):
            return False
        return self._selection.takes(head.shown_name, head.run_id, head.status, head.tags)

    def _left_out(self, runs: Sequence[Nested], chosen: int) -> list[Finding]:
        """A note about the deleted runs of an experiment, unless they are read, too."""
        deleted = sum(nested.head.stage != ACTIVE for nested in runs)
        self._unselected += len(runs) - chosen
        if not deleted or self._deleted:
            return []
        self._in_trash += deleted
        where = f"experiment {runs[0].head.experiment.name!r}"
        message = "deleted runs are left out; --deleted exports them, too"
        return [Finding("deleted-runs", Severity.INFO, where, message, deleted)]

    def end(self, location: str, *, is_part: bool = False) -> None:
        """Raises the errors; without any, MissingSourceError if no run was read."""
        errors = self.errors(location, is_empty=not (self._read or is_part))
        if errors:
            raise errors[0] if len(errors) == 1 else TreeError(location, errors)

    def errors(self, location: str, *, is_empty: bool) -> tuple[SourceError, ...]:
        """The errors so far. Raises MissingSourceError without any, if no run was read."""
        if is_empty and not self._errors:
            raise self._no_runs(location)
        return tuple(self._errors)

    def _no_runs(self, location: str) -> SourceError:
        found, remedy = "an MLflow store with 0 runs", "Check which store the runs were logged to."
        if self._unselected > self._in_trash:
            others = f"{self._unselected:,} run{'s' * (self._unselected != 1)}"
            found = f"an MLflow store with {others}, none of them selected"
            remedy = (
                "Check the patterns of --select, and the run in the address: "
                "`bridge ls` shows names and experiments."
            )
        elif self._in_trash:
            found = f"an MLflow store with deleted runs only ({self._in_trash:,})"
            remedy = "Add --deleted to export deleted runs."
        return MissingSourceError(location, found=found, expected="runs", remedy=remedy)


def _refused(path: str, reason: str) -> SourceError:
    """The error for a directory or database that cannot be read."""
    if os.path.isdir(path):
        return unlisted(path, reason)
    return SourceError(
        path,
        found=f"a database that cannot be read ({reason})",
        expected="a readable file",
        remedy="Check its permissions.",
    )


def _experiments(store: Store, place: StoreLocation) -> Iterator[tuple[str, list[Nested]]]:
    """The name and runs of each selected experiment, parents before their children."""
    for experiment in with_distinct_names(store.experiments()):
        if place.experiment in (None, experiment.id, experiment.name):
            found = families(store.heads(experiment))
            yield experiment.name, [run for family in found for run in family]


def _without_runs(experiment: str) -> list[Finding]:
    """A note about an experiment without runs; every store has one of the default name."""
    if experiment == DEFAULT_EXPERIMENT:
        return []
    message = "an experiment without runs is not exported"
    return [Finding("empty-experiment", Severity.INFO, f"experiment {experiment!r}", message)]


def _not_carried(store: Store) -> list[Finding]:
    """A note about the other records of a store."""
    kinds = {kind: count for kind, count in sorted(store.left_out().items()) if count}
    if not kinds:
        return []
    listed = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.items())
    message = f"not exported, as no target takes them: {listed}"
    return [Finding("not-carried", Severity.INFO, store.location, message, sum(kinds.values()))]


def _in_parts(runs: Sequence[Nested]) -> Iterator[list[Nested]]:
    """The runs in parts of at least `RUNS_PER_PART` runs but the last; no family is divided."""
    waiting: list[Nested] = []
    for _, family in groupby(runs, lambda nested: nested.outermost.run_id):
        waiting += family
        if len(waiting) >= RUNS_PER_PART:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _marked(store: Store, runs: Sequence[Nested]) -> tuple[Nested, ...]:
    """The runs with their marks, if the store has them."""
    if not isinstance(store, MarksRuns):
        return tuple(runs)
    marks: list[str] = []
    with suppress(SourceError):  # reading the runs reports the error
        for start in range(0, len(runs), RUNS_PER_PART):
            marks += store.marks([nested.head for nested in runs[start : start + RUNS_PER_PART]])
    marks += [""] * (len(runs) - len(marks))
    return tuple(
        replace(nested, head=replace(nested.head, mark=mark))
        for nested, mark in zip(runs, marks, strict=True)
    )
