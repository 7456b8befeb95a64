"""The event files of a run on disk: published segments, and the recovery from killed exports.

Published files never change. A file is written under a name ignored by readers, synced, and then
renamed atomically. The next export finishes or removes the files of killed exports.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bridges.errors import ExportError, VerifyError
from bridges.exporters.atomic_files import unlink
from bridges.exporters.base import ExistingRun
from bridges.exporters.state import UNREADABLE, State
from bridges.exporters.tensorboard.names import (
    ATTEMPT,
    FILE,
    HIDDEN,
    SEGMENT,
    final_name,
    segment_of,
)
from bridges.exporters.tensorboard.records import (
    FOLDERS,
    PARAMS_TAG,
    STATE_TAG,
    params_in,
    parse_state,
    parse_tags,
    state_fields,
)
from bridges.formats.events.content import EventFile
from bridges.formats.events.reader import decode, first_texts
from bridges.formats.events.tfrecord import EventFileError


@dataclass(frozen=True)
class Segment:
    """One published file: its path, the run's start, its first row, and the run's state after it.

    `started` is in seconds since 1970 UTC.
    """

    path: str
    started: int
    first: int
    state: State


def segments(directory: str, key: str) -> list[Segment]:
    """All published files of a run, in write order."""
    return [
        Segment(path, int(match[1]), *_read_state(path))
        for match in _matches(_recovered(directory, key), key)
        if (path := os.path.join(directory, match[0]))
    ]


def segment_names(names: Iterable[str], key: str) -> list[str]:
    """The names of a run's published files among `names`, in write order."""
    return [match[0] for match in _matches(names, key)]


def _matches(names: Iterable[str], key: str) -> list[re.Match[str]]:
    matches = [match for name in names if key in name and (match := SEGMENT.fullmatch(name))]
    return sorted((one for one in matches if one[2] == key), key=lambda match: int(match[3]))


def in_force(written: list[Segment]) -> list[Segment]:
    """The files in force: a file from row 0 on replaces all earlier ones."""
    complete = [index for index, segment in enumerate(written) if segment.first == 0]
    return written[complete[-1] :] if complete else written


def existing_in(logdir: str, directory: str, key: str) -> ExistingRun | None:
    """The run of a key in a directory. Raises ExportError if one of its files is missing."""
    parts = in_force(segments(directory, key))
    if not parts:
        return None
    rows = 0
    for segment in parts:
        if segment.first != rows:
            raise ExportError(
                f"{directory}: the event file with rows {rows} to {segment.first - 1} is missing. "
                "Delete the directory and export the run again."
            )
        rows = segment.state.rows
    name = os.path.relpath(directory, logdir)
    return ExistingRun(key, name, directory, parts[-1].state)


def visible(logdir: str) -> Iterator[tuple[str, list[str]]]:
    """Walk a log directory: each directory, in order, with the names of its files.

    Hidden directories and links to directories are skipped.
    """
    waiting = [logdir]
    while waiting:
        folder, inside, files = waiting.pop(), [], []
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    files.append(entry.name)
                elif entry.name[0] != ".":
                    inside.append(entry.path)
        waiting += sorted(inside, reverse=True)
        yield folder, files


def leftovers(logdir: str) -> dict[str, list[str]]:
    """The hidden directories of unpublished runs, by run key."""
    found: dict[str, list[str]] = {}
    for name in names_in(logdir):
        if name[0] == "." and (match := HIDDEN.fullmatch(name)):
            found.setdefault(match[1], []).append(os.path.join(logdir, name))
    return found


def publish_partial(directory: str, partial: str) -> None:
    """Rename a finished file in a claimed directory to its published name."""
    with suppress(FileNotFoundError):  # another process was faster
        os.rename(os.path.join(directory, partial), os.path.join(directory, final_name(partial)))


def remove_unpublished(directory: str, key: str) -> None:
    """Remove the unpublished files of a new run after a killed or slower export."""
    for name in names_in(directory):
        match = ATTEMPT.fullmatch(name)
        if match and match[2] == key and not int(match[3]):
            with suppress(FileNotFoundError):  # it was published meanwhile
                os.unlink(os.path.join(directory, name))
            remove_parts(directory, key)
            with suppress(OSError):  # not empty
                os.rmdir(directory)


def remove_parts(directory: str, key: str) -> None:
    """Remove all parts of an unpublished run, and the empty directories."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            if f".{key}." in (segment_of(name) or ""):
                unlink(os.path.join(folder, name))
        if folder != directory:
            with suppress(OSError):  # not empty
                os.rmdir(folder)


def _recovered(directory: str, key: str) -> list[str]:
    """The names in a directory, after finishing or removing the files of killed exports."""
    names = names_in(directory)
    is_changed = False
    with suppress(OSError):  # a read-only disk stays as it is
        for name in names:
            match, attempt = FILE.fullmatch(name), ATTEMPT.fullmatch(name)
            if match and match[2] == key and match[3]:
                is_changed = True
                publish_partial(directory, name)
            if attempt and final_name(attempt[1]) in names:
                is_changed = True
                unlink(os.path.join(directory, name))
    return names_in(directory) if is_changed else names


def names_in(directory: str) -> list[str]:
    """The names in a directory; none if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(directory))
    return []


def _read_state(path: str) -> tuple[int, State]:
    try:
        return parse_state(dict(first_texts(path))[STATE_TAG])
    except (OSError, EventFileError, *UNREADABLE):
        raise ExportError(
            f"{path}: its first records are damaged, so its stored rows are unknown. "
            "Delete its directory and export the run again."
        ) from None


def folders_in(segment: EventFile) -> tuple[Sequence[str], str] | None:
    """The other directories of a segment's run, and the digest of its state; None without any."""
    text = next((each.text for each in segment.texts if each.tag == STATE_TAG), "")
    if f'"{FOLDERS}"' not in text:  # the usual case
        return None
    state = state_fields(text)
    return (state[FOLDERS], state["digest"]) if state.get(FOLDERS) else None


def recorded_params(path: str) -> dict[str, str]:
    """The params in the first file of a run. Raises VerifyError if it is damaged."""
    try:
        texts = dict(first_texts(path, records=4))
    except EventFileError as error:
        raise VerifyError(str(error)) from None
    return params_in(texts.get(PARAMS_TAG, ""))


def recorded_tags(path: str) -> dict[str, str]:
    """The run tags in a published file. Raises ExportError if it is damaged."""
    _read_state(path)
    return parse_tags(dict(first_texts(path))[STATE_TAG])


def read_event_file(path: str) -> EventFile:
    """Read a published file. Raises VerifyError if it is unreadable or damaged."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        return decode(path, data)
    except OSError as error:
        raise VerifyError(f"{path}: cannot be read back: {error.strerror}") from error
    except EventFileError as error:
        message = f"{error} Delete its directory and export the run again."
        raise VerifyError(message) from None
