"""TensorBoard: one directory a run, one event file a write, published whole or not at all.

State lives in the names and the first record of the files: the name carries the run key and the
first row of the segment, the record (a text on the Text page) the rows, digest and clock. A longer
history adds a file with the new rows only; nothing that was published is ever changed.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import (
    BaseExporter,
    ConflictError,
    ExistingRun,
    Labels,
    Points,
    Recorded,
)
from bridges.exporters.event_claims import Attempt, attempt, discard
from bridges.exporters.event_file import as_float32
from bridges.exporters.event_journal import Journal
from bridges.exporters.event_names import (
    FILE,
    attempt_name,
    directory_name,
    segment_name,
)
from bridges.exporters.event_records import OWN_TEXTS, records
from bridges.exporters.event_segments import (
    existing_in,
    in_force,
    leftovers,
    names_in,
    recorded_params,
    recorded_tags,
    remove_unpublished,
    segment_names,
    segments,
    visible,
)
from bridges.exporters.files import (
    publish_once,
    sync_directory,
    system_errors,
    unlink,
    write_file,
)
from bridges.exporters.marks import ReceiptFile, RunReceipt
from bridges.exporters.state import State, whole_state
from bridges.exporters.tensorboard_options import TensorBoardOptions
from bridges.formats.event_reader import EventFile, ScalarPart, read_event_file
from bridges.stream.align import hidden_duplicates
from bridges.stream.clock import SECOND
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout

MOST_OF_A_NAME = 10_000  # runs
SAMPLED = 1000  # points of a tag above which TensorBoard shows a sample
EVERY = 1_000_000_000  # points of a tag, as its option: 0 would show none
RECEIPTS_NAME = ".bridges.marks.jsonl"  # in the log directory; readers ignore it
SHARED = ("step", "wall_time")  # what the tags of a record have in common


class TensorBoardExporter(BaseExporter):
    """Writes runs as event files below `logdir`, each in a directory of its own."""

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
        """The layout under a name that a directory can have; event files hold any tag."""
        findings = [*layout.findings, *_hidden(layout)]
        name = directory_name(layout.run.name)
        if name == layout.run.name:
            return replace(layout, findings=tuple(findings))
        message = (
            f"a directory cannot have the name {layout.run.name!r}: the run is called {name!r}"
        )
        findings.append(Finding("name-changed", Severity.INFO, layout.run.source, message))
        return replace(layout, run=replace(layout.run, name=name), findings=tuple(findings))

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys: first under the expected name, then anywhere."""
        with system_errors(self.logdir, "read"):
            found = self._find(identity)
        if any(run.state.digest == identity.digest for run in found):
            self._remove_leftovers(identity.key)
        return found

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether there may be a run with one of these keys."""
        with system_errors(self.logdir, "read"):
            return not self._index().keys().isdisjoint(keys)

    def _find(self, identity: Identity) -> list[ExistingRun]:
        likely = os.path.join(self.logdir, directory_name(identity.path))
        first = existing_in(self.logdir, likely, identity.key)
        if first and _is_just(first, identity):
            return [first]
        index = self._index()
        places = {key: dict.fromkeys([likely, *index.get(key, ())]) for key in identity.keys}
        looked = [
            existing_in(self.logdir, path, key) for key, paths in places.items() for path in paths
        ]
        return [run for run in looked if run is not None]

    def _index(self) -> dict[str, list[str]]:
        """The directories of each run key. The log directory is walked once by each exporter."""
        if self._directories is None:
            self._directories = {}
            for path, files in visible(self.logdir):
                for key in {match[2] for match in map(FILE.fullmatch, files) if match}:
                    self._directories.setdefault(key, []).append(path)
        self._learn(self._journal.news())
        return self._directories

    def _learn(self, news: Iterable[tuple[str, str]]) -> None:
        """Add to the index what the journal says."""
        assert self._directories is not None
        for key, place in news:
            self._directories.setdefault(key, []).append(os.path.join(self.logdir, place))

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Publish the run in a new directory, or its new rows beside the old ones."""
        state = whole_state(layout, existing.state if existing else None)
        with system_errors(self.logdir):
            if existing:
                directory = self._append(layout, existing, state)
            else:
                directory = self._create(layout, state, {run.location for run in seen})
        name = os.path.relpath(directory, self.logdir)
        return ExistingRun(layout.key, name, directory, state)

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """With new rows only: a file is named after the first of them."""
        return rows > existing.state.rows

    def _create(self, layout: Layout, state: State, seen: set[str]) -> str:
        """Write the run under a hidden name, claim its key, and publish it."""
        name = segment_name(layout.key, layout.clock.start // SECOND, 0)
        try:
            with attempt(self.logdir, layout.key, name) as made:
                write_file(made.path, records(layout, 0, state))
                made.claim()
                self._move(made, layout, seen)
                directory = made.publish()
        except FileNotFoundError:  # a faster export of this run took it for a leftover
            if not os.path.isdir(self.logdir):
                raise
            raise ConflictError from None
        sync_directory(directory)
        self._remove_leftovers(layout.key)
        return directory

    def _move(self, made: Attempt, layout: Layout, seen: set[str]) -> None:
        """Give the claimed directory the first free name: one at which there is nothing, or an
        empty directory. Raises ConflictError where the run was published since it was looked for.
        """
        name, index = directory_name(layout.run.path), self._index()
        for number in range(1, MOST_OF_A_NAME):
            place = name if number == 1 else f"{name}-{number}"
            path = os.path.join(self.logdir, place)
            if names_in(path):
                self._refuse_news([path], layout.key, seen)
            if not names_in(path):
                if not os.path.isdir(os.path.dirname(path)):
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                self._learn(self._journal.add(layout.key, place))
                self._refuse_news(index.get(layout.key, ()), layout.key, seen)
                with suppress(FileExistsError):
                    return made.move(path)
        raise ExportError(f"{self.logdir}: there are 10,000 runs of the name {name!r} already")

    def _refuse_news(self, paths: Iterable[str], key: str, seen: set[str]) -> None:
        """Raise ConflictError if one of these directories holds the run, but `find` did not see it
        there. Where it is not published yet it never will be.
        """
        for path in paths:
            if path not in seen:
                remove_unpublished(path, key)
                if segments(path, key):
                    self._index().setdefault(key, []).append(path)
                    raise ConflictError

    def _remove_leftovers(self, key: str) -> None:
        """What killed exports of this run left behind, once the run is there.

        They are looked for once: most runs have none, and a directory that is made and removed for
        each run would slow down how a file system finds room for the next.
        """
        if self._leftovers is None:
            self._leftovers = leftovers(self.logdir)
        for path in self._leftovers.pop(key, ()):
            with suppress(OSError):
                discard(path, key)

    def _append(self, layout: Layout, existing: ExistingRun, state: State) -> str:
        """Publish the new rows; the file's name can be taken only once.

        Rows that go back behind earlier steps would be taken for a restart, and the points behind
        them hidden. So then the file holds the whole run in order, and replaces those before it.
        """
        started = segments(existing.location, layout.key)[0].started
        name = segment_name(layout.key, started, existing.state.rows)
        partial = os.path.join(existing.location, attempt_name(name))
        is_whole = layout.replaces or _goes_back(layout, existing.state.rows)
        start = 0 if is_whole else existing.state.rows
        try:
            write_file(partial, records(layout, start, state))
            publish_once(partial, os.path.join(existing.location, name))
        except (FileExistsError, FileNotFoundError):
            raise ConflictError from None
        finally:
            unlink(partial)
        sync_directory(existing.location)
        return existing.location

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points and texts of the run's event files, in the order of the files."""
        with system_errors(existing.location, "read"):
            files = [read_event_file(path) for path in _counting(existing)]
        tags = dict.fromkeys(tag for file in files for tag in file.scalars)
        joined = _Joined()
        points = {
            tag: joined.points([part for file in files for part in _in_file_order(file, tag)])
            for tag in tags
        }
        texts = [text for file in files for text in sorted(file.texts)]
        others = tuple(
            (tag.removesuffix("/text_summary"), step, text)
            for _, tag, step, text in texts
            if tag not in OWN_TEXTS
        )
        return Recorded(points, others)

    def stored_params(self, existing: ExistingRun) -> Mapping[str, str]:
        """The params of the run, from the table of the Text page."""
        with system_errors(existing.location, "read"):
            return recorded_params(_counting(existing)[0])

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """The run if it has these labels; else None, for they are in its directory and its file."""
        is_named = existing.name == directory_name(layout.run.path)
        has_name = is_named or not (labels.name or labels.group)
        tags = recorded_tags(_counting(existing)[0]) if labels.tags else {}
        return existing if has_name and labels.tags.items() <= tags.items() else None

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in a file of the log directory.

        A receipt becomes void if a file is added to the directory of its run.
        """
        paths = ([run.location, *_published(run.location, run.key)] for run in runs)
        self._receipts.put(zip(runs, paths, strict=True))

    def receipts(self) -> Iterator[RunReceipt]:
        """The valid receipts, without reading event files. Removes leftovers of killed exports."""
        for run in self._receipts.read():
            self._remove_leftovers(run.key)
            yield run

    def as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Event files hold float32."""
        return as_float32(values)

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The command that shows the runs, all points of them."""
        every = f" --samples_per_plugin scalars={EVERY}" if longest > SAMPLED else ""
        return f"tensorboard --logdir {shlex.quote(self.logdir)}{every}"


def _hidden(layout: Layout) -> list[Finding]:
    """Points that share a tag and a step: the default loader shows one of them."""
    hidden = hidden_duplicates(layout.stream)
    if not hidden:
        return []
    message = "points share tag and step with a later one, which is all that TensorBoard shows"
    return [Finding("hidden-by-duplicates", Severity.INFO, "all tags", message, hidden)]


def _counting(existing: ExistingRun) -> list[str]:
    """The paths of the event files that hold a run. Raises VerifyError where there are none."""
    paths = _published(existing.location, existing.key)
    if len(paths) > 1:  # one of them may replace others, or be newer than what was found
        there = [
            part
            for part in segments(existing.location, existing.key)
            if part.state.rows <= existing.state.rows
        ]
        paths = [part.path for part in in_force(there)]
    if not paths:
        raise VerifyError(f"{existing.location}: the run is gone")
    return paths


def _published(directory: str, key: str) -> list[str]:
    """The paths of a run's event files, in their order."""
    return [os.path.join(directory, name) for name in segment_names(names_in(directory), key)]


def _is_just(existing: ExistingRun, identity: Identity) -> bool:
    """Whether a run can only be that of the identity, with its whole history."""
    state = existing.state
    return (state.digest, state.settings.digest) == (identity.digest, identity.settings.digest)


def _goes_back(layout: Layout, rows: int) -> bool:
    """Whether a row from `rows` on has a lower step than one before."""
    step = layout.stream.step
    return 0 < rows < len(step) and bool(step[rows:].min() < step[:rows].max())


def _in_file_order(file: EventFile, tag: str) -> list[ScalarPart]:
    """The parts of a tag by offset: as one, where they lie between each other."""
    parts = file.scalars.get(tag, [])
    if all(one.offset[-1] < other.offset[0] for one, other in pairwise(parts)):
        return parts
    order = np.argsort(_column(parts, "offset"), kind="stable")
    names = ("offset", "step", "value", "wall_time")
    return [ScalarPart(*(_column(parts, name)[order] for name in names))]


class _Joined:
    """Columns of several parts as one. Tags of the same records share their steps and times."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[list[NDArray[Any]], NDArray[Any]]] = {}

    def points(self, parts: list[ScalarPart]) -> Points:
        """The points of a tag."""
        step, time = (self._shared([getattr(part, name) for part in parts]) for name in SHARED)
        return Points(step, _column(parts, "value"), time)

    def _shared(self, columns: list[NDArray[Any]]) -> NDArray[Any]:
        key = tuple(map(id, columns))
        if key not in self._known:  # the columns are kept, so that no other gets their id
            self._known[key] = columns, np.concatenate(columns)
        return self._known[key][1]


def _column(parts: list[ScalarPart], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(part, name) for part in parts])
