"""Offline runs in a folder: each is a directory that appears whole, and a file that is replaced.

A history that grows replaces the file of its run while that was not synced; after a sync the new
rows go into a part of their own: a second directory of the same run, which `wandb sync` appends.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from glob import escape, glob
from typing import NoReturn

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import ConflictError, Held, Recorded
from bridges.exporters.files import sync_directory, write_file
from bridges.exporters.state import whole_state
from bridges.exporters.wandb_log import LogError, write_log
from bridges.exporters.wandb_reader import RunHead, attached, read_head, read_run, with_files
from bridges.exporters.wandb_run import METADATA, Part, Target, metadata, records, start_of
from bridges.stream.layout import Layout

KEY_DIGITS, DIGEST_DIGITS = 10, 6  # of a run's id
STAMP = "%Y%m%d_%H%M%S"
SOURCE_FOLDER = "source"  # of attached files, within the files of the run

# puts `run-ID.wandb`, with what a layout says, into a directory
MakeFile = Callable[[str, Layout, Target, Part], None]


def make_file(folder: str, layout: Layout, target: Target, part: Part) -> None:
    """The file of a part, written without wandb."""
    path = os.path.join(folder, f"run-{part.run_id}.wandb")
    write_file(path, write_log(records(layout, target, part)))


def fill(folder: str, layout: Layout, target: Target, part: Part, make: MakeFile) -> None:
    """All that a run's directory holds."""
    make(folder, layout, target, part)
    put_files(folder, {METADATA: metadata(layout)})


def run_id_of(layout: Layout) -> str:
    """The id of a new run: made of its key, which finds it again, and of its history, so that two
    runs with one beginning stay apart in W&B even where they are exported in different places.
    """
    return layout.key[:KEY_DIGITS] + layout.digest[:DIGEST_DIGITS]


@dataclass(frozen=True)
class _Place:
    """The file of a part: `folder`/offline-run-STAMP-ID/run-ID.wandb."""

    path: str

    @property
    def run_id(self) -> str:
        return os.path.basename(self.path)[4:-6]

    @property
    def stamp(self) -> datetime:
        name = os.path.basename(os.path.dirname(self.path))
        return datetime.strptime(name[12:27], STAMP).replace(tzinfo=timezone.utc)

    @property
    def is_synced(self) -> bool:
        return os.path.exists(f"{self.path}.synced")


class OfflineRuns:
    """The runs in `folder`, whose files `make` makes."""

    def __init__(self, folder: str, target: Target, make: MakeFile = make_file) -> None:
        self.folder = folder
        self._target = target
        self._make = make
        self._seen: set[str] = set()

    def find(self, layout: Layout) -> list[Held]:
        """The runs with the layout's key."""
        runs: dict[str, str] = {}
        self._seen = set(self._paths(f"{layout.key[:KEY_DIGITS]}{'?' * DIGEST_DIGITS}*"))
        for path in sorted(self._seen):
            runs[_Place(path).run_id] = path  # the newest part tells of the whole run
        held = [self._held(path, layout) for path in runs.values()]
        return [run for run in held if run]

    def _paths(self, run_id: str) -> list[str]:
        """The files of runs, in the order of their parts."""
        pattern = os.path.join(escape(self.folder), f"offline-run-*-{run_id}", "run-*.wandb")
        return sorted(glob(pattern))

    def _held(self, path: str, layout: Layout) -> Held | None:
        head = _head(path)
        if head.state is None:
            raise ExportError(
                f"{path} is not a run that bridges wrote, but stands where this one belongs. "
                "Move it away, or give another --wandb-dir."
            )
        if head.key != layout.key:
            return None
        state = head.state
        return Held(head.name, path, layout.key, state.rows, state.digest, state.clock, state.cuts)

    def write(self, layout: Layout, held: Held | None) -> Held:
        """Write the run, or what it lacks. Raises ConflictError, ExportError."""
        with self._told():
            if held is None:
                part = Part(run_id_of(layout), whole_state(layout))
                path = self._add(layout, part, [])
            else:
                path = self._continue(layout, held)
            written = self._held(path, layout)
        assert written is not None
        return written

    def _continue(self, layout: Layout, held: Held) -> str:
        """A part of its own for what comes after a sync, else the newest part once more."""
        parts = self._parts(held)
        is_synced = parts[-1].is_synced
        before = parts if is_synced else parts[:-1]
        first = _first_row(layout, before)
        files = set() if is_synced else attached(_read(held.location)) - {METADATA}
        part = Part(parts[-1].run_id, whole_state(layout, held.cuts), first, files)
        if is_synced:
            return self._add(layout, part, parts)
        return self._replace(layout, part, held)

    def _parts(self, held: Held) -> list[_Place]:
        """The parts of a run; the last is the one that was found."""
        parts = [_Place(path) for path in self._paths(_Place(held.location).run_id)]
        if not parts or parts[-1].path != held.location:
            raise ConflictError
        return parts

    def _add(self, layout: Layout, part: Part, parts: list[_Place]) -> str:
        """A new part: its directory appears with its file in it, an empty one confuses wandb."""
        folder = self._new_folder(start_of(layout, part.first), part.run_id, parts)
        with self._staged() as staged:
            fill(staged, layout, self._target, part, self._make)
            self._publish(staged, folder, part.run_id)
        return os.path.join(folder, f"run-{part.run_id}.wandb")

    def _new_folder(self, start: int, run_id: str, parts: list[_Place]) -> str:
        """Named by when the part begins, and after those that are there."""
        stamp = datetime.fromtimestamp(start / 1000.0, timezone.utc)
        if parts:
            stamp = max(stamp, parts[-1].stamp + timedelta(seconds=1))
        return os.path.join(self.folder, f"offline-run-{stamp:{STAMP}}-{run_id}")

    @contextmanager
    def _staged(self) -> Iterator[str]:
        """A directory that no reader sees, for what is being written."""
        staged = os.path.join(self.folder, f".bridges-{os.urandom(6).hex()}")
        os.makedirs(staged)
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _publish(self, staged: str, folder: str, run_id: str) -> None:
        sync_directory(staged)
        with _locked(self.folder):
            if set(self._paths(f"{run_id[:KEY_DIGITS]}{'?' * DIGEST_DIGITS}*")) - self._seen:
                raise ConflictError
            os.rename(staged, folder)
        sync_directory(self.folder)

    def _replace(self, layout: Layout, part: Part, held: Held) -> str:
        path = held.location
        with self._staged() as staged:
            self._make(staged, layout, self._target, part)
            with _locked(self.folder):
                if self._held(path, layout) != held or _Place(path).is_synced:
                    raise ConflictError
                os.replace(os.path.join(staged, os.path.basename(path)), path)
        sync_directory(os.path.dirname(path))
        return path

    def read_back(self, held: Held) -> Recorded:
        """All points of the run."""
        parts = self._parts(held)
        try:
            state = read_head(parts[0].path).state
            is_merged = state is not None and "wandb-step" in state.layout
            return read_run((_read(part.path) for part in parts), from_start=not is_merged)
        except (OSError, LogError) as error:
            raise VerifyError(f"{held.location} cannot be read back: {error}") from error

    def attach(self, held: Held, files: Mapping[str, bytes]) -> None:
        """Put the files beside the run, unless they are there."""
        with self._told():
            parts = self._parts(held)
            named = {f"{SOURCE_FOLDER}/{name}": content for name, content in files.items()}
            if not any(_has_files(part, named) for part in parts):
                self._attach(parts, named)

    def _attach(self, parts: list[_Place], named: Mapping[str, bytes]) -> None:
        """Into the newest part, or one without rows where that was synced already."""
        newest = parts[-1]
        content = write_log(with_files(_read(newest.path), named, rows=not newest.is_synced))
        with self._staged() as staged:
            file = os.path.join(staged, os.path.basename(newest.path))
            write_file(file, content)
            if newest.is_synced:
                put_files(staged, named)
                start = int(newest.stamp.timestamp() * 1000)
                self._publish(staged, self._new_folder(start, newest.run_id, parts), newest.run_id)
                return
            put_files(os.path.dirname(newest.path), named)
            with _locked(self.folder):
                if newest.is_synced:
                    raise ConflictError
                os.replace(file, newest.path)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the system says, as an error of ours."""
        try:
            yield
        except OSError as error:
            message = f"{self.folder}: cannot be written: {error.strerror or error}"
            raise ExportError(message) from error


def _first_row(layout: Layout, before: list[_Place]) -> int:
    """The row of the stream at which a part begins that follows others."""
    if not before:
        return 0
    state = _head(before[-1].path).state
    assert state is not None
    check_mergeable(layout, state.rows)
    return layout.position(state.rows)


def check_mergeable(layout: Layout, rows: int) -> None:
    """Raises ExportError where merged rows from `rows` on have a step that was uploaded already."""
    steps = layout.run.stream.step
    is_merged = layout.identity.get("wandb-step") == "global_step"
    if is_merged and 0 < rows < len(steps) and steps[rows:].min() <= steps[:rows].max():
        raise ExportError(
            f"the run was uploaded up to row {rows}, and a later row has a step that is there "
            "already: with --wandb-step global_step it can no longer be merged. Leave the option "
            "out, which makes a run of its own."
        )


def put_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Files of a run, below `files/` in its directory."""
    for name, content in files.items():
        path = os.path.join(folder, "files", *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, [content])


def _has_files(part: _Place, named: Mapping[str, bytes]) -> bool:
    """Whether a part has just these files beside it."""
    if not named.keys() <= attached(_read(part.path)):
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


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _unreadable(path: str, error: Exception) -> NoReturn:
    message = f"{path} cannot be read: {error}. Move it away and export again."
    raise ExportError(message) from error


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Only one process at a time gives names in this folder."""
    if os.name != "posix":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
