"""The event files of a run on disk: what is published, which of it counts, how more gets there.

Nothing that was published is changed. A file is written under a name that no reader takes, synced,
and then gets its own name in one step; what a killed export left before that step is finished or
removed by whoever looks next.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import ExistingRun
from bridges.exporters.event_names import ATTEMPT, FILE, HIDDEN, SEGMENT, final_name
from bridges.exporters.event_records import (
    PARAMS_TAG,
    STATE_TAG,
    params_in,
    parse_state,
    parse_tags,
)
from bridges.exporters.files import unlink
from bridges.exporters.state import UNREADABLE, State
from bridges.formats.event_reader import first_texts


@dataclass(frozen=True)
class Segment:
    """One published file: its path, the run's start (seconds), the first row that it holds, and
    the state of the run with it.
    """

    path: str
    started: int
    first: int
    state: State


def segments(directory: str, key: str) -> list[Segment]:
    """All published files of a run, in the order in which they were written."""
    return [
        Segment(path, int(match[1]), *_read_state(path))
        for match in _matches(_mended(directory, key), key)
        if (path := os.path.join(directory, match[0]))
    ]


def segment_names(names: Iterable[str], key: str) -> list[str]:
    """Those of a directory's names that are a run's published files, in their order."""
    return [match[0] for match in _matches(names, key)]


def _matches(names: Iterable[str], key: str) -> list[re.Match[str]]:
    matches = [match for name in names if key in name and (match := SEGMENT.fullmatch(name))]
    return sorted((one for one in matches if one[2] == key), key=lambda match: int(match[3]))


def in_force(written: list[Segment]) -> list[Segment]:
    """The files that count: a file with the whole run replaces those before it."""
    whole = [index for index, segment in enumerate(written) if segment.first == 0]
    return written[whole[-1] :] if whole else written


def existing_in(logdir: str, directory: str, key: str) -> ExistingRun | None:
    """The run of a key in a directory. Raises ExportError if a part of it is gone."""
    counting = in_force(segments(directory, key))
    if not counting:
        return None
    rows = 0
    for segment in counting:
        if segment.first != rows:
            raise ExportError(
                f"{directory}: the event file with rows {rows} to {segment.first - 1} is gone. "
                "Delete the directory and export the run again."
            )
        rows = segment.state.rows
    name = os.path.relpath(directory, logdir)
    return ExistingRun(key, name, directory, counting[-1].state)


def visible(logdir: str) -> Iterator[tuple[str, list[str]]]:
    """Each directory from a log directory on down, in order, and the names of its files; but no
    hidden directories, nor links to others.
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
    """The directories in which runs were or are being built, by run key."""
    found: dict[str, list[str]] = {}
    for name in names_in(logdir):
        if name[0] == "." and (match := HIDDEN.fullmatch(name)):
            found.setdefault(match[1], []).append(os.path.join(logdir, name))
    return found


def publish_partial(directory: str, partial: str) -> None:
    """The last step: a whole file in a claimed directory gets the name that readers take."""
    with suppress(FileNotFoundError):  # another process has done so meanwhile
        os.rename(os.path.join(directory, partial), os.path.join(directory, final_name(partial)))


def remove_unpublished(directory: str, key: str) -> None:
    """Remove a run that was not published when its export was killed, or overtaken."""
    for name in names_in(directory):
        match = ATTEMPT.fullmatch(name)
        if match and match[2] == key and not int(match[3]):
            with suppress(FileNotFoundError):  # it was published meanwhile
                os.unlink(os.path.join(directory, name))
            with suppress(OSError):  # there may be more in it
                os.rmdir(directory)


def _mended(directory: str, key: str) -> list[str]:
    """The names in a directory, after what exports of the run left when they were killed at their
    last step is finished or removed.
    """
    names = names_in(directory)
    is_changed = False
    with suppress(OSError):  # on a read-only disk it stays as it is
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
    """The names in a directory; none where there is no such."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(directory))
    return []


def _read_state(path: str) -> tuple[int, State]:
    try:
        return parse_state(dict(first_texts(path))[STATE_TAG])
    except (OSError, VerifyError, *UNREADABLE):
        raise ExportError(
            f"{path}: its first records are damaged, so it cannot be told what it holds. "
            "Delete its directory and export the run again."
        ) from None


def recorded_params(path: str) -> dict[str, str]:
    """The params that the first file of a run records. Raises VerifyError where it is damaged."""
    return params_in(dict(first_texts(path, records=4)).get(PARAMS_TAG, ""))


def recorded_tags(path: str) -> dict[str, str]:
    """The tags of its run that a published file records. Raises ExportError where it is damaged."""
    _read_state(path)
    return parse_tags(dict(first_texts(path))[STATE_TAG])
