"""Offline runs in a folder: one directory per run, published atomically.

Before a sync, a longer history replaces the run's file. After a sync, new rows go into another
part: a second directory of the same run, which `wandb sync` appends.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count, islice
from typing import NoReturn

from bridges.errors import ExportError, VerifyError
from bridges.exporters.atomic_files import sync_directory, system_errors, write_file
from bridges.exporters.base import ConflictError, ExistingRun, Labels, Recorded
from bridges.exporters.receipts import ReceiptFile, RunReceipt
from bridges.exporters.state import whole_state
from bridges.exporters.wandb.folder import KEY_DIGITS, STAGING, Place, RunFolder, parts_of
from bridges.exporters.wandb.limits import short, tag_texts
from bridges.exporters.wandb.reader import (
    RunHead,
    attached,
    read_config,
    read_head,
    read_run,
    with_files,
)
from bridges.exporters.wandb.release import check_appends
from bridges.exporters.wandb.run import METADATA, Part, Target, metadata, records, start_of
from bridges.formats.wandb_log.log import LogError, write_log
from bridges.stream.clock import SECOND
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout

DIGEST_DIGITS = 6  # digits of the history's digest in a run's id
SOURCE_FOLDER = "source"  # folder of attached files, within the files of the run

# writes a layout to `run-ID.wandb` in a directory
MakeFile = Callable[[str, Layout, Target, Part], None]


def make_file(folder: str, layout: Layout, target: Target, part: Part) -> None:
    """Write the file of a part, without the wandb package."""
    path = os.path.join(folder, f"run-{part.run_id}.wandb")
    write_file(path, write_log(records(layout, target, part)))


def fill(folder: str, layout: Layout, target: Target, part: Part, make: MakeFile) -> None:
    """Write all files of a run's directory."""
    os.mkdir(os.path.join(folder, "files"))
    with open(os.path.join(folder, "files", METADATA), "wb") as file:
        file.write(metadata(layout))  # not fsynced here: `make` follows
    make(folder, layout, target, part)


def run_id_of(run: Layout | Identity) -> str:
    """The id of a new run, from its key and its history.

    `find` uses the digits of the key. The digits of the history distinguish runs with a common
    beginning in W&B, even if they are exported from different folders.
    """
    return run.key[:KEY_DIGITS] + run.digest[:DIGEST_DIGITS]


class OfflineRuns:
    """The runs in `folder`; `make` writes their files."""

    def __init__(self, folder: str, target: Target, make: MakeFile = make_file) -> None:
        self._folder = RunFolder(folder)
        self._receipts = ReceiptFile(os.path.join(folder, STAGING, "marks.jsonl"), folder)
        self._target = target
        self._make = make

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs of the project with one of the keys."""
        found = []
        for key in identity.keys:
            with system_errors(self._folder.path, "read"):
                places = self._folder.places(key)
            found += self._runs(places, key)
        return found

    def may_hold(self, keys: Collection[str]) -> bool:
        """True: to look for a key costs nothing here."""
        return True

    def _runs(self, places: list[Place], key: str) -> list[ExistingRun]:
        """The runs with a key at these places; the newest part of a run has its state."""
        newest = {place.run_id: place for place in places}
        found = [self._run(place.path, key) for place in newest.values()]
        return [run for run in found if run]

    def _run(self, path: str, key: str) -> ExistingRun | None:
        head = _head(path)
        if head.state is None:
            raise ExportError(
                f"{path} was not written by bridges, but has the id of this run. Move it away, or "
                "give another --wandb-dir."
            )
        if head.key != key or not self._is_ours(head):
            return None
        return ExistingRun(key, head.name, path, head.state, Place(path).run_id, head.project)

    def _is_ours(self, head: RunHead) -> bool:
        """Whether a run belongs to the target's project.

        Without an entity in the options, runs of any entity match.
        """
        target = self._target
        return head.project == target.project and target.entity in (None, head.entity)

    def _new_id(self, layout: Layout, places: list[Place]) -> str:
        """The id of a new run, unique in the folder.

        If another project's run has the id, the project gives a suffix. If a run with equal rows
        has it, the settings do.
        """
        run_id, target = run_id_of(layout), self._target
        taken = {place.run_id: place.path for place in places}
        if run_id in taken and not self._is_ours(_head(taken[run_id])):
            project = f"{target.entity or ''}/{target.project}".encode()
            run_id += f"-{hashlib.blake2b(project, digest_size=3).hexdigest()}"
        if run_id in taken and layout.run.settings.digest:
            run_id += f"-{layout.run.settings.digest[:DIGEST_DIGITS]}"
        numbered = (f"{run_id}-{number}" for number in count(2))
        return next(name for name in (run_id, *islice(numbered, len(taken))) if name not in taken)

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run, or the missing rows of an existing one."""
        with system_errors(self._folder.path):
            if existing is None:
                path = self._create(layout, seen)
            else:
                path = self._continue(layout, existing)
            written = self._run(path, layout.key)
        assert written is not None
        return written

    def _create(self, layout: Layout, seen: Sequence[ExistingRun]) -> str:
        places = self._folder.places(layout.key)
        if any(run not in seen for run in self._runs(places, layout.key)):
            raise ConflictError
        part = Part(self._new_id(layout, places), whole_state(layout))
        return self._add(layout, part, [], places)

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """Set the labels of a run; None if it was synced, as uploaded parts cannot change."""
        with system_errors(self._folder.path):
            head = _head(existing.location)
            has_name = not labels.name or short(labels.name) == head.name
            has_group = not labels.group or short(labels.group) == head.group
            if has_name and has_group and {*tag_texts(labels.tags)} <= {*head.tags}:
                return existing
            if not self.can_replace(existing):
                return None
            written = self._run(self._continue(layout, existing, labels), layout.key)
        assert written is not None
        return written

    def _continue(self, layout: Layout, existing: ExistingRun, labels: Labels | None = None) -> str:
        """Write a new part after a sync, else the newest part again. Returns its path."""
        places = self._folder.places(existing.id)
        parts = _parts(existing, places)
        is_synced = parts[-1].is_synced
        before = parts if is_synced else parts[:-1]
        first = _first_row(layout, before)
        files = set() if is_synced else _attached(existing.location) - {METADATA}
        labels = labels or Labels()
        head = _head(existing.location)
        part = Part(
            existing.id,
            whole_state(layout, existing.state),
            first,
            files,
            name=labels.name or existing.name,
            group=labels.group or head.group,
            tags=head.tags,
        )
        if is_synced:
            check_appends()
            return self._add(layout, part, parts, places)
        return self._replace(layout, part, existing)

    def can_replace(self, existing: ExistingRun) -> bool:
        """Whether the run has one part only, and it is unsynced."""
        parts = self._folder.parts(existing.id)
        return [(part.path, part.is_synced) for part in parts] == [(existing.location, False)]

    def _add(self, layout: Layout, part: Part, parts: list[Place], places: list[Place]) -> str:
        """Publish a new part. Returns the path of its file."""
        name = self._folder.new_name(start_of(layout, part.first), part.run_id, parts)
        with self._folder.staged() as staged:
            fill(staged, layout, self._target, part, self._make)
            return self._folder.publish(staged, name, part.run_id, places)

    def _replace(self, layout: Layout, part: Part, existing: ExistingRun) -> str:
        path = existing.location
        with self._folder.staged() as staged:
            self._make(staged, layout, self._target, part)
            with self._folder.locked():
                if self._run(path, existing.key) != existing or Place(path).is_synced:
                    raise ConflictError
                os.replace(os.path.join(staged, os.path.basename(path)), path)
        sync_directory(os.path.dirname(path))
        return path

    def is_part(self, path: str) -> bool:
        """Whether a file is a later part of a run."""
        return self._folder.parts(Place(path).run_id)[:1] != [Place(path)]

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of the run."""
        parts = _parts(existing, self._folder.places(existing.id))
        try:
            state = read_head(parts[0].path).state
            is_merged = state is not None and "wandb-step" in state.layout
            return read_run((_read(part.path) for part in parts), from_start=not is_merged)
        except (OSError, LogError) as error:
            remedy = "Restore the file, or delete its directory and export the run again."
            raise VerifyError(
                f"{existing.location} cannot be read back: {error}. {remedy}"
            ) from error

    def stored_params(self, existing: ExistingRun) -> dict[str, object]:
        """The run's config."""
        try:
            return read_config(existing.location)
        except (OSError, LogError) as error:
            _unreadable(existing.location, error)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files with the run, once."""
        with system_errors(self._folder.path):
            places = self._folder.places(existing.id)
            parts = _parts(existing, places)
            named = {f"{SOURCE_FOLDER}/{name}": content for name, content in files.items()}
            if not any(_has_files(part, named) for part in parts):
                self._attach(parts, named, places)

    def _attach(self, parts: list[Place], named: Mapping[str, bytes], places: list[Place]) -> None:
        """Attach files to the newest part, or to a new part without rows after a sync."""
        newest = parts[-1]
        content = write_log(with_files(_read(newest.path), named, rows=not newest.is_synced))
        with self._folder.staged() as staged:
            file = os.path.join(staged, os.path.basename(newest.path))
            write_file(file, content)
            if newest.is_synced:
                put_files(staged, named)
                start = int(newest.stamp.timestamp()) * SECOND
                name = self._folder.new_name(start, newest.run_id, parts)
                self._folder.publish(staged, name, newest.run_id, places)
                return
            put_files(os.path.dirname(newest.path), named)
            with self._folder.locked():
                if newest.is_synced:
                    raise ConflictError
                os.replace(file, newest.path)

    def preload(self) -> None:
        """Do nothing: the folder is listed once in any case."""

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts for the newest part of each run, in a file ignored by `wandb sync`."""
        self._receipts.put((run, [run.location]) for run in runs)

    def receipts(self) -> Iterator[RunReceipt]:
        """The valid receipts, without reading run files; a receipt of an older part is ignored."""
        with system_errors(self._folder.path, "read"):
            newest = {place.path for place in self._folder.newest()}
        yield from (run for run in self._receipts.read() if run.location in newest)


def _parts(existing: ExistingRun, places: list[Place]) -> list[Place]:
    """The parts of a run. Raises ConflictError if the last one changed since `find`."""
    parts = parts_of(existing.id, places)
    if not parts or parts[-1].path != existing.location:
        raise ConflictError
    return parts


def _first_row(layout: Layout, before: list[Place]) -> int:
    """The first stream row of a part, which follows the parts `before`."""
    if not before:
        return 0
    state = _head(before[-1].path).state
    assert state is not None
    check_mergeable(layout, state.rows)
    return layout.position(state.rows)


def check_mergeable(layout: Layout, rows: int) -> None:
    """Raises ExportError if merged rows from `rows` on have an uploaded step."""
    steps = layout.run.stream.step
    is_merged = layout.identity.options.get("wandb-step") == "global_step"
    if is_merged and 0 < rows < len(steps) and steps[rows:].min() <= steps[:rows].max():
        raise ExportError(
            f"the run was uploaded up to row {rows}, and a later row has an uploaded step: with "
            "--wandb-step global_step it can no longer be merged. Remove the option, which makes "
            "another run."
        )


def put_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Write files below `files/` in a run's directory."""
    for name, content in files.items():
        path = os.path.join(folder, "files", *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, [content])


def _has_files(part: Place, named: Mapping[str, bytes]) -> bool:
    """Whether a part has these files."""
    if not named.keys() <= _attached(part.path):
        return False
    folder = os.path.join(os.path.dirname(part.path), "files")
    with suppress(FileNotFoundError):
        return all(_read(os.path.join(folder, name)) == named[name] for name in named)
    return False


def _head(path: str) -> RunHead:
    try:
        return read_head(path)
    except (OSError, LogError) as error:
        _unreadable(path, error)


def _attached(path: str) -> set[str]:
    try:
        return attached(_read(path))
    except LogError as error:
        _unreadable(path, error)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _unreadable(path: str, error: Exception) -> NoReturn:
    message = f"{path} cannot be read: {error}. Move it away and export again."
    raise ExportError(message) from error
