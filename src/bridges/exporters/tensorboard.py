"""TensorBoard: one directory a run, one event file a write, published whole or not at all.

State lives in the names and the first record of the files: the name carries the run key and the
first row of the segment, the record (a text on the Text page) the rows, digest and clock. A longer
history adds a file with the new rows only; nothing that was published is ever changed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ConfigError, ExportError, VerifyError
from bridges.exporters.base import ConflictError, Held, Points, Recorded
from bridges.exporters.event_file import as_float32
from bridges.exporters.event_names import (
    ATTEMPT,
    FILE,
    SEGMENT,
    directory_name,
    final_name,
    partial_name,
    segment_name,
)
from bridges.exporters.event_reader import EventFile, ScalarPart, first_texts, read_event_file
from bridges.exporters.event_records import OWN_TEXTS, STATE_TAG, parse_state, records
from bridges.stream.align import hidden_duplicates, preempted
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout

SAMPLED = 1000  # points of a tag above which TensorBoard shows a sample


@dataclass(frozen=True)
class _Segment:
    """One published file: its path, first row, and what its state record says."""

    path: str
    start: int
    state: dict[str, Any]


class TensorBoardExporter:
    """Writes runs as event files below `logdir`, each in a directory of its own."""

    name = "tensorboard"
    rules = "tensorboard"

    def __init__(self, logdir: str = "runs") -> None:
        self.logdir = os.fspath(logdir)
        if "://" in self.logdir:
            raise ConfigError(
                f"--logdir {logdir}: event files are written to a local directory. "
                "Export to one, then copy it there as a whole."
            )
        self._directories: dict[str, list[str]] | None = None
        self._seen: set[str] = set()

    def find(self, layout: Layout) -> list[Held]:
        """The runs with the layout's key: first under the expected name, then anywhere."""
        likely = os.path.join(self.logdir, directory_name(layout.run.path))
        held = _held_in(self.logdir, likely, layout.key)
        if held and held.rows == layout.rows and held.digest == layout.digest:
            found = [held]
        else:
            places = dict.fromkeys([likely, *self._index().get(layout.key, ())])
            looked = [_held_in(self.logdir, path, layout.key) for path in places]
            found = [run for run in looked if run is not None]
        if any(run.digest == layout.digest for run in found):
            self._remove_leftovers(layout.key)
        self._seen = {run.location for run in found}
        return found

    def _index(self) -> dict[str, list[str]]:
        """The directories of each run key. The log directory is walked once by each exporter."""
        if self._directories is None:
            self._directories = {}
            for path, directories, files in os.walk(self.logdir):
                directories[:] = sorted(name for name in directories if name[0] != ".")
                for key in {match[2] for match in map(FILE.fullmatch, files) if match}:
                    self._directories.setdefault(key, []).append(path)
        return self._directories

    def write(self, layout: Layout, held: Held | None) -> Held:
        """Publish the run in a new directory, or its new rows beside the old ones."""
        try:
            directory = self._create(layout) if held is None else self._append(layout, held)
        except OSError as error:
            raise ExportError(
                f"{error.filename or self.logdir}: cannot be written: {error.strerror or error}"
            ) from error
        written = _held_in(self.logdir, directory, layout.key)
        if written is None:
            raise ConflictError
        self._index().setdefault(layout.key, []).append(directory)
        return written

    def _create(self, layout: Layout) -> str:
        """Build the directory under a hidden name; its renaming claims the run's name."""
        name = segment_name(layout.key, layout.clock.start // 1000, 0)
        hidden = os.path.join(self._workshop(layout.key), os.urandom(4).hex())
        try:
            os.makedirs(hidden)
            _write_file(os.path.join(hidden, partial_name(name)), records(layout, 0))
            directory = self._claim(hidden, layout)
        except FileNotFoundError:  # a faster export of this run took it for a leftover
            raise ConflictError from None
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
            with suppress(OSError):  # another export of this run is at work there
                os.rmdir(os.path.dirname(hidden))
        _publish_partial(directory, partial_name(name))
        _sync_directory(directory)
        self._remove_leftovers(layout.key)
        return directory

    def _claim(self, hidden: str, layout: Layout) -> str:
        """Rename to the first free name; a directory with anything in it is not free.

        Raises ConflictError where a name was taken for this run since it was looked for.
        """
        name = directory_name(layout.run.path)
        for number in range(1, 10_000):
            path = os.path.join(self.logdir, name if number == 1 else f"{name}-{number}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with suppress(FileExistsError, NotADirectoryError):
                if not os.path.exists(path) or not os.listdir(path):
                    return _rename_unless_taken(hidden, path)
            self._refuse_news(path, layout.key)
        raise ExportError(f"{self.logdir}: there are 10,000 runs of the name {name!r} already")

    def _refuse_news(self, path: str, key: str) -> None:
        """Raise ConflictError if the run is in a directory where `find` did not see it."""
        if path not in self._seen and _segments(path, key):
            self._index().setdefault(key, []).append(path)
            raise ConflictError

    def _workshop(self, key: str) -> str:
        """The hidden directory below which a run's directories are built."""
        return os.path.join(self.logdir, f".bridges-{key}")

    def _remove_leftovers(self, key: str) -> None:
        """What killed exports of this run left behind, once the run is there."""
        shutil.rmtree(self._workshop(key), ignore_errors=True)

    def _append(self, layout: Layout, held: Held) -> str:
        """Publish the new rows; the file's name can be taken only once."""
        first = _segments(held.location, layout.key)[0]
        started = int(_match(os.path.basename(first.path))[1])
        name = segment_name(layout.key, started, held.rows)
        path = os.path.join(held.location, name)
        partial = os.path.join(held.location, f"{partial_name(name)}-{os.urandom(4).hex()}")
        try:
            _write_file(partial, records(layout, held.rows))
            os.link(partial, path)
        except (FileExistsError, FileNotFoundError):
            raise ConflictError from None
        finally:
            _unlink(partial)
        _sync_directory(held.location)
        return held.location

    def read_back(self, held: Held) -> Recorded:
        """All points and texts of the run's event files, in the order of the files."""
        key = _match(_published(held.location)[0])[2]
        segments = [part for part in _segments(held.location, key) if part.start < held.rows]
        files = [read_event_file(segment.path) for segment in segments]
        tags = dict.fromkeys(tag for file in files for tag in file.scalars)
        points = {
            tag: _joined([part for file in files for part in _in_file_order(file, tag)])
            for tag in tags
        }
        texts = [text for file in files for text in sorted(file.texts)]
        others = tuple(
            (tag.removesuffix("/text_summary"), step, text)
            for _, tag, step, text in texts
            if tag not in OWN_TEXTS
        )
        return Recorded(points, others)

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Event files hold float32."""
        return as_float32(values)

    def notes(self, layout: Layout, cuts: tuple[int, ...]) -> list[Finding]:
        """What the default loader of TensorBoard will not show of a run that is all there."""
        notes = []
        twice, back = hidden_duplicates(layout.stream), preempted(layout.stream, cuts)
        if twice:
            message = (
                "points share tag and step with a later one, which is all that TensorBoard shows"
            )
            code = "hidden-by-duplicates"
            notes.append(Finding(code, Severity.INFO, "all tags", message, twice))
        if back:
            message = (
                "the new rows go back behind the steps of these points, so TensorBoard takes them "
                "for a restart and hides the points; to see them, delete the run's directory and "
                "export it again in one piece"
            )
            code = "hidden-by-restart"
            notes.append(Finding(code, Severity.WARNING, "all tags", message, back))
        return notes

    def hint(self, locations: list[str], longest: int) -> str | None:
        """The command that shows the runs, all points of them."""
        every = " --samples_per_plugin scalars=0" if longest > SAMPLED else ""
        return f"tensorboard --logdir {self.logdir}{every}"


def _held_in(logdir: str, directory: str, key: str) -> Held | None:
    """What a directory holds of a run; an export that was killed before its last step is ended."""
    segments = _segments(directory, key)
    if not segments:
        return None
    rows = 0
    for segment in segments:
        if segment.start != rows:
            raise ExportError(
                f"{directory}: the event file with rows {rows} to {segment.start - 1} is gone. "
                "Delete the directory and export the run again."
            )
        rows = segment.state["rows"][1]
    return Held(
        name=os.path.relpath(directory, logdir),
        location=directory,
        rows=rows,
        digest=segments[-1].state["digest"],
        clock=segments[0].state["clock"],
        cuts=tuple(segment.state["rows"][1] for segment in segments),
    )


def _publish_partial(directory: str, partial: str) -> None:
    """The last step: a whole file in a claimed directory gets the name that readers take."""
    with suppress(FileNotFoundError):  # another process has done so meanwhile
        os.rename(os.path.join(directory, partial), os.path.join(directory, final_name(partial)))


def _match(name: str) -> re.Match[str]:
    match = SEGMENT.fullmatch(name)
    if match is None:
        raise VerifyError(f"{name} is no event file of bridges")
    return match


def _published(directory: str) -> list[str]:
    """The names of the event files of bridges in a directory, in order."""
    return [name for name in _names(directory) if SEGMENT.fullmatch(name)]


def _names(directory: str) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(directory))
    return []


def _segments(directory: str, key: str) -> list[_Segment]:
    """The published files of a run, by first row."""
    names = _names(directory)
    for partial in names:
        match = FILE.fullmatch(partial)
        if match and match[2] == key and match[3]:
            _publish_partial(directory, partial)
        killed = ATTEMPT.fullmatch(partial)
        if killed and final_name(killed[1]) in names:  # an append that was killed at its last step
            _unlink(os.path.join(directory, partial))
    segments = []
    for name in _published(directory):
        match = _match(name)
        if match[2] == key:
            path = os.path.join(directory, name)
            segments.append(_Segment(path, int(match[3]), _read_state(path)))
    return sorted(segments, key=lambda segment: segment.start)


def _read_state(path: str) -> dict[str, Any]:
    try:
        return parse_state(dict(first_texts(path))[STATE_TAG])
    except (OSError, VerifyError, KeyError, TypeError, ValueError):
        raise ExportError(
            f"{path}: its first records are damaged, so it cannot be told what it holds. "
            "Delete its directory and export the run again."
        ) from None


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _rename_unless_taken(hidden: str, path: str) -> str:
    try:
        os.rename(hidden, path)
    except FileNotFoundError:
        raise ConflictError from None
    except OSError as error:
        raise FileExistsError(path) from error
    return path


def _write_file(path: str, content: Iterable[Any]) -> None:
    with open(path, "wb") as file:  # buffered: a raw write may stop short without an error
        for piece in content:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _in_file_order(file: EventFile, tag: str) -> list[ScalarPart]:
    """The parts of a tag as one, by offset."""
    parts = file.scalars.get(tag, [])
    if len(parts) <= 1:
        return parts
    order = np.argsort(_column(parts, "offset"), kind="stable")
    names = ("offset", "step", "value", "wall_time")
    return [ScalarPart(*(_column(parts, name)[order] for name in names))]


def _joined(parts: list[ScalarPart]) -> Points:
    return Points(*(_column(parts, name) for name in ("step", "value", "wall_time")))


def _column(parts: list[ScalarPart], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(part, name) for part in parts])
