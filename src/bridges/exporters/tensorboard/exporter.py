"""TensorBoard: one directory per run, one event file (segment) per write, published atomically.

The file name contains the run key and the first row of the segment. The first record, a text on the
Text page, contains the state of the run. A longer history adds a file with the new rows only;
published files never change.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bridges.errors import ExportError, VerifyError
from bridges.exporters.atomic_files import (
    publish_once,
    sync_directory,
    system_errors,
    unlink,
    write_file,
)
from bridges.exporters.base import (
    BaseExporter,
    ConflictError,
    ExistingRun,
    Labels,
    Points,
    Recorded,
)
from bridges.exporters.receipts import ReceiptFile, RunReceipt
from bridges.exporters.state import State, whole_state
from bridges.exporters.tensorboard.claims import Attempt, attempt, discard
from bridges.exporters.tensorboard.journal import Journal
from bridges.exporters.tensorboard.names import (
    FILE,
    attempt_name,
    directory_name,
    segment_name,
)
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.tensorboard.records import OWN_TEXTS, records
from bridges.exporters.tensorboard.segments import (
    existing_in,
    folders_in,
    in_force,
    leftovers,
    names_in,
    read_event_file,
    recorded_params,
    recorded_tags,
    remove_unpublished,
    segment_names,
    segments,
    visible,
)
from bridges.formats.events.content import EventFile, ScalarPart
from bridges.formats.events.writer import as_float32
from bridges.stream.align import hidden_duplicates
from bridges.stream.clock import SECOND
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout, with_steps
from bridges.stream.model import Values

if TYPE_CHECKING:
    from bridges.exporters.tensorboard.folders import Parts

MAX_RUNS_PER_NAME = 10_000
MAX_SHOWN_POINTS = 1000  # per tag; TensorBoard samples longer ones
ALL_POINTS = 1_000_000_000  # per tag, for --samples_per_plugin, where 0 shows none
RECEIPTS_NAME = ".bridges.marks.jsonl"  # in the log directory; readers ignore it
SHARED = ("step", "wall_time")  # columns that the tags of a record share


class TensorBoardExporter(BaseExporter):
    """Writes runs as event files below `logdir`, one directory per run."""

    name = "tensorboard"
    naming = "tensorboard"
    place = ""
    Options = TensorBoardOptions

    def __init__(self, options: TensorBoardOptions | None = None) -> None:
        self.logdir = (options or TensorBoardOptions()).logdir
        self._directories: dict[str, list[str]] | None = None
        self._journal = Journal(self.logdir)
        self._receipts = ReceiptFile(os.path.join(self.logdir, RECEIPTS_NAME), self.logdir)
        self._leftovers: dict[str, list[str]] | None = None

    def adapt(self, layout: Layout) -> Layout:
        """The layout with a legal directory name; event files accept any tag."""
        layout = with_steps(layout)
        found, run = _hidden(layout), layout.run
        name = directory_name(run.name)
        if name != run.name:
            message = f"{run.name!r} is not a legal directory name: the run is called {name!r}"
            found.append(Finding("name-changed", Severity.INFO, run.source, message))
            run = replace(run, name=name)
        return replace(layout, run=run, findings=(*layout.findings, *found)) if found else layout

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys: first under the expected name, then in all directories."""
        with system_errors(self.logdir, "read"):
            found = self._find(identity)
        if any(run.state.digest == identity.digest for run in found):
            self._remove_leftovers(identity.key)
        return found

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the log directory may have a run with one of these keys."""
        with system_errors(self.logdir, "read"):
            return not self._index().keys().isdisjoint(keys)

    def _find(self, identity: Identity) -> list[ExistingRun]:
        likely = os.path.join(self.logdir, directory_name(identity.path))
        first = existing_in(self.logdir, likely, identity.key)
        if first and _matches(first, identity):
            return [first]
        index = self._index()
        paths = {key: dict.fromkeys([likely, *index.get(key, ())]) for key in identity.keys}
        found = [existing_in(self.logdir, path, key) for key in paths for path in paths[key]]
        return [run for run in found if run is not None]

    def _index(self) -> dict[str, list[str]]:
        """The directories of each run key. Each exporter walks the log directory once."""
        if self._directories is None:
            self._directories = {}
            for path, files in visible(self.logdir):
                for key in {match[2] for match in map(FILE.fullmatch, files) if match}:
                    self._directories.setdefault(key, []).append(path)
        self._learn(self._journal.news())
        return self._directories

    def _learn(self, news: Iterable[tuple[str, str]]) -> None:
        """Add journal lines to the index."""
        assert self._directories is not None
        for key, path in news:
            self._directories.setdefault(key, []).append(os.path.join(self.logdir, path))

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Publish a new run in a new directory, or new rows in the directory of the run."""
        state = whole_state(layout, existing.state if existing else None)
        with system_errors(self.logdir):
            if existing:
                directory = self._append(layout, existing, state)
            else:
                directory = self._create(layout, state, {run.location for run in seen})
        name = os.path.relpath(directory, self.logdir)
        return ExistingRun(layout.key, name, directory, state)

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """True for a layout with new rows only, as a file is named after its first row."""
        return rows > existing.state.rows

    def _create(self, layout: Layout, state: State, seen: set[str]) -> str:
        """Write a new run under a hidden name, claim its key, and publish it."""
        name = segment_name(layout.key, layout.clock.start // SECOND, 0)
        try:
            with attempt(self.logdir, layout.key, name) as made:
                write_file(made.path, records(layout, 0, state))
                parts = _parts(layout, 0, os.path.dirname(made.path), name)
                made.claim()
                self._move(made, layout, seen)
                if parts:
                    parts.publish(os.path.dirname(made.path))
                directory = made.publish()
        except FileNotFoundError:  # a faster export of this run removed it as a leftover
            if not os.path.isdir(self.logdir):
                raise
            raise ConflictError from None
        sync_directory(directory)
        self._remove_leftovers(layout.key)
        return directory

    def _move(self, made: Attempt, layout: Layout, seen: set[str]) -> None:
        """Rename the claimed directory to the first unused name.

        Raises ConflictError if the run was published since `find`.
        """
        name, index = directory_name(layout.run.path), self._index()
        for number in range(1, MAX_RUNS_PER_NAME):
            numbered = name if number == 1 else f"{name}-{number}"
            path = os.path.join(self.logdir, numbered)
            if names_in(path):
                self._refuse_news([path], layout.key, seen)
            if not names_in(path):
                if not os.path.isdir(os.path.dirname(path)):
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                self._learn(self._journal.add(layout.key, numbered))
                self._refuse_news(index.get(layout.key, ()), layout.key, seen)
                with suppress(FileExistsError):
                    return made.move(path)
        raise ExportError(
            f"{self.logdir}: 10,000 runs are called {name!r}. Give another --run-name or --logdir."
        )

    def _refuse_news(self, paths: Iterable[str], key: str, seen: set[str]) -> None:
        """Raises ConflictError if one of these directories holds the run but `find` missed it.

        Unpublished files of the run are removed, so they are never published.
        """
        for path in paths:
            if path not in seen:
                remove_unpublished(path, key)
                if segments(path, key):
                    self._index().setdefault(key, []).append(path)
                    raise ConflictError

    def _remove_leftovers(self, key: str) -> None:
        """Remove the leftovers of killed exports of a published run.

        The log directory is listed once, as most runs have no leftovers.
        """
        if self._leftovers is None:
            self._leftovers = leftovers(self.logdir)
        for path in self._leftovers.pop(key, ()):
            with suppress(OSError):
                discard(path, key)

    def _append(self, layout: Layout, existing: ExistingRun, state: State) -> str:
        """Publish the new rows; only one export can take the file's name.

        Readers interpret a lower step as a restart and hide the earlier points from this step on.
        If the new rows have lower steps, the file holds the complete run and replaces earlier ones.
        """
        started = segments(existing.location, layout.key)[0].started
        name = segment_name(layout.key, started, existing.state.rows)
        partial = os.path.join(existing.location, attempt_name(name))
        is_complete = layout.replaces or _goes_back(layout, existing.state.rows)
        start = 0 if is_complete else existing.state.rows
        parts = _parts(layout, start, existing.location, name)
        try:
            write_file(partial, records(layout, start, state))
            if parts:
                parts.publish(existing.location)
            publish_once(partial, os.path.join(existing.location, name))
        except (FileExistsError, FileNotFoundError):
            if parts:
                parts.withdraw(existing.location, segments(existing.location, layout.key))
            raise ConflictError from None
        finally:
            unlink(partial)
        sync_directory(existing.location)
        if parts:
            parts.remove_leftovers(existing.location, segments(existing.location, layout.key))
        return existing.location

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points and texts of the run's event files, in the order of the files."""
        with system_errors(existing.location, "read"):
            files = [each for path in _paths_in_force(existing) for each in _read(path)]
        found: dict[str, list[ScalarPart]] = {}
        for prefix, file in files:
            for tag, parts in file.scalars.items():
                found.setdefault(prefix + tag, []).extend(parts)
        joined = _Joined()
        points = {tag: joined.points(parts) for tag, parts in found.items()}
        others = tuple(
            (prefix + text.tag.removesuffix("/text_summary"), text.step, text.text)
            for prefix, file in files
            for text in file.texts
            if text.tag not in OWN_TEXTS
        )
        return Recorded(points, others)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, str]:
        """The params of the run, from the table of the Text page."""
        with system_errors(existing.location, "read"):
            return recorded_params(_paths_in_force(existing)[0])

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """The run if it has these labels; else None, as published names and files never change."""
        is_named = existing.name == directory_name(layout.run.path)
        has_name = is_named or not (labels.name or labels.group)
        tags = recorded_tags(_paths_in_force(existing)[0]) if labels.tags else {}
        return existing if has_name and labels.tags.items() <= tags.items() else None

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in a file of the log directory.

        A receipt becomes invalid if a file is added to the directory of its run.
        """
        paths = ([run.location, *_published(run.location, run.key)] for run in runs)
        self._receipts.put(zip(runs, paths, strict=True))

    def receipts(self) -> Iterator[RunReceipt]:
        """The valid receipts, without reading event files. Removes leftovers of killed exports."""
        for run in self._receipts.read():
            self._remove_leftovers(run.key)
            yield run

    def as_stored(self, values: Values) -> Values:
        """Float32, the type of event files."""
        return as_float32(values)

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The `tensorboard` command with all points of the runs."""
        every = f" --samples_per_plugin scalars={ALL_POINTS}" if longest > MAX_SHOWN_POINTS else ""
        return f"tensorboard --logdir {shlex.quote(self.logdir)}{every}"


def _parts(layout: Layout, start: int, directory: str, segment: str) -> Parts | None:
    """The parts of a run in other directories, written under hidden names; None without any."""
    if not layout.run.folders:
        return None
    from bridges.exporters.tensorboard.folders import Parts

    return Parts.write(layout, start, directory, segment)


def _read(path: str) -> Iterator[tuple[str, EventFile]]:
    """A segment and its parts, each with the prefix of its tags. Raises VerifyError."""
    segment = read_event_file(path)
    yield "", segment
    if folders := folders_in(segment):
        from bridges.exporters.tensorboard.folders import read_parts

        yield from read_parts(path, *folders)


def _hidden(layout: Layout) -> list[Finding]:
    """A finding for points with equal tag and step: TensorBoard's default loader shows the last."""
    hidden = hidden_duplicates(layout.stream)
    if not hidden:
        return []
    message = "points share tag and step with a later point; TensorBoard shows the later one only"
    return [Finding("hidden-by-duplicates", Severity.INFO, "all tags", message, hidden)]


def _paths_in_force(existing: ExistingRun) -> list[str]:
    """The paths of the event files in force for a run. Raises VerifyError without any."""
    paths = _published(existing.location, existing.key)
    if len(paths) > 1:  # a file may replace others, or be newer than `existing`
        parts = [
            part
            for part in segments(existing.location, existing.key)
            if part.state.rows <= existing.state.rows
        ]
        paths = [part.path for part in in_force(parts)]
    if not paths:
        raise VerifyError(f"{existing.location}: the run is missing")
    return paths


def _published(directory: str, key: str) -> list[str]:
    """The paths of a run's published event files, in order."""
    return [os.path.join(directory, name) for name in segment_names(names_in(directory), key)]


def _matches(existing: ExistingRun, identity: Identity) -> bool:
    """Whether a run has the history and the settings of the identity."""
    state = existing.state
    return (state.digest, state.settings.digest) == (identity.digest, identity.settings.digest)


def _goes_back(layout: Layout, rows: int) -> bool:
    """Whether a row from `rows` on has a lower step than an earlier row."""
    step = layout.stream.step
    return 0 < rows < len(step) and bool(step[rows:].min() < step[:rows].max())


class _Joined:
    """Concatenates the parts of tags. Tags of the same records share their steps and times."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[list[Values], Values]] = {}

    def points(self, parts: list[ScalarPart]) -> Points:
        """The points of a tag."""
        step, time = (self._shared([getattr(part, name) for part in parts]) for name in SHARED)
        return Points(step, _column(parts, "value"), time)

    def _shared(self, columns: list[Values]) -> Values:
        key = tuple(map(id, columns))
        if key not in self._known:  # the cache keeps the columns alive: ids stay unique
            self._known[key] = columns, np.concatenate(columns)
        return self._known[key][1]


def _column(parts: list[ScalarPart], name: str) -> Values:
    return np.concatenate([getattr(part, name) for part in parts])
