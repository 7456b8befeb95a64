"""Discovery: the histories below a place, local or remote, by listing and never by reading.

A place is a directory, a glob, or an fsspec URL of either. Symbolic links are followed, each
directory once.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from bridges.errors import SourceError
from bridges.sources.remote import opened
from bridges.sources.sidecars.results import NAME as RESULTS
from bridges.sources.sidecars.sidecars import NAMES as BESIDE
from bridges.sources.text import MissingSourceError
from bridges.sources.times.events import NAME as EVENTS
from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, output_of
from bridges.sources.tuning_logs.source import NAME as LOG

STATE = re.compile(r"trainer_state[\w. -]*\.json(\.gz)?\Z")  # also copies with a longer name
GLOB = re.compile(r"[*?\[]")
ENDINGS = (".json", ".jsonl", ".ndjson", ".txt", ".gz")  # of histories of any name
_NO_HISTORY = re.compile(  # JSON that transformers saves beside a model
    r"(.*config|.*\.index|tokenizer|vocab|added_tokens|special_tokens_map|merges)\.(json|txt)\Z"
)


@dataclass(slots=True)
class Found:
    """What lies below a place: its states, files of settings and results by their directory, what
    has the name of a tuning tool's log and event files by theirs, how many other files by the ends
    of their names, the directories of checkpoints, and why some directories cannot be listed.

    `pattern` matches the names of files that were asked for: these are states under any name, and
    `named` holds those that only the pattern tells.
    """

    states: list[str] = field(default_factory=list)
    beside: dict[str, list[str]] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    events: dict[str, list[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    checkpoints: set[str] = field(default_factory=set)
    unlisted: dict[str, str] = field(default_factory=dict)
    pattern: str = ""
    named: set[str] = field(default_factory=set)

    def add(self, path: str) -> None:
        """Sort in one file."""
        folder, _, name = path.replace(os.sep, "/").rpartition("/")
        if CHECKPOINT.match(folder.rpartition("/")[2]):
            self.checkpoints.add(folder)
        if STATE.match(name):
            self.states.append(path)
        elif name in BESIDE or RESULTS.match(name):
            self.beside.setdefault(folder, []).append(path)
        elif EVENTS.match(name):
            self.events.setdefault(folder, []).append(path)
        elif LOG.match(name):
            self.logs.setdefault(folder, []).append(path)
        elif fnmatchcase(name, self.pattern) and not _NO_HISTORY.match(name):
            self.states.append(path)
            self.named.add(path)
        else:
            self.ignore(name)

    def ignore(self, name: str) -> None:
        """Count a file that is none of these."""
        self.others[os.path.splitext(name)[1] or name] += 1

    @property
    def kept(self) -> list[str]:
        """The files that may be read: those by which a change of a place is seen."""
        others = (*self.beside.values(), *self.logs.values())
        return [*self.states, *(path for paths in others for path in paths)]

    def without_state(self) -> dict[str, list[str]]:
        """The checkpoints that were left without a state, by the directory that they lie in."""
        found: dict[str, list[str]] = {}
        whole = {path.replace(os.sep, "/").rpartition("/")[0] for path in self.states}
        for folder in sorted(self.checkpoints - whole, key=natural):
            name = folder.rpartition("/")[2]
            found.setdefault(output_of(f"{folder}/"), []).append(name)
        return found


def is_place(location: str) -> bool:
    """Whether a location names a directory or a glob. Only URLs that could be either are asked."""
    if location == "-":
        return False
    if "://" not in location:
        is_glob = GLOB.search(location) is not None and not os.path.exists(location)
        return is_glob or os.path.isdir(location)
    last = location.rsplit("/", 1)[-1]
    if GLOB.search(last) or not last:
        return True
    return "." not in last and _is_remote_directory(location)


def _is_remote_directory(location: str) -> bool:
    try:
        files, path = opened(location)
        return bool(files.isdir(path))
    except Exception:  # deliberately broad: reading the location tells what is wrong
        return False


def discover(location: str) -> Found:
    """All that lies below a place. Raises SourceError if the place itself cannot be listed."""
    found = Found(pattern=_file_pattern(location))
    for path in walk(location, found.unlisted):
        found.add(path)
    if location in found.unlisted:
        raise unlisted(location, found.unlisted[location])
    found.states.sort(key=natural)
    return found


def _file_pattern(location: str) -> str:
    """The last part of a pattern that names files by their ending, such as `*.json`; else none."""
    last = location.replace(os.sep, "/").rpartition("/")[2]
    return last if is_place(location) and GLOB.search(last) and last.endswith(ENDINGS) else ""


def walk(location: str, unlisted: dict[str, str] | None = None) -> Iterator[str]:
    """Every file below a place, whatever it is. Raises SourceError.

    Directories that cannot be listed are passed over, and put into `unlisted` with the reason.
    """
    if "://" in location:
        return _walk_remote(location)
    return _walk_local(location, {} if unlisted is None else unlisted)


def unlisted(folder: str, reason: str) -> SourceError:
    """The error of a directory that cannot be listed."""
    return SourceError(
        folder,
        found=f"a directory that cannot be listed ({reason})",
        expected="a readable directory",
        remedy="Check its permissions, or name the files to read.",
    )


def natural(path: str) -> list[Any]:
    """A key that sorts names as people do: checkpoint-500 before checkpoint-1000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def _walk_local(location: str, unlisted: dict[str, str]) -> Iterator[str]:
    if os.path.isdir(location):
        yield from _below(location, set(), unlisted)
        return
    matches = sorted(_matches(location), key=natural)
    if not matches:
        raise _nothing(location)
    visited: set[tuple[int, int]] = set()
    for match in matches:
        if os.path.isdir(match):
            yield from _below(match, visited, unlisted)
        else:
            yield match


def _matches(pattern: str) -> list[str]:
    """The paths that a pattern names. `**` is walked here: links may lead in a circle, and `glob`
    follows each of them.
    """
    import glob

    if re.search(r"(\A|/)[*][*]/?\Z", pattern):  # all below a directory
        return _matches(re.sub(r"/?[*][*]/?\Z", "", pattern) or os.curdir)
    base, stars, rest = re.sub(r"[*][*](?:/[*][*])+", "**", pattern).partition("**/")
    if not stars or not (base == "" or base.endswith("/")):
        return glob.glob(pattern, recursive=True)
    folders: list[str] = []
    for start in glob.glob(base) if base else [os.curdir]:
        folders += _folders(start, set())
    places = (os.path.normpath(folder) if base else os.path.relpath(folder) for folder in folders)
    found = (_matches(os.path.join(glob.escape(place), rest)) for place in places)
    return [os.path.normpath(path) for paths in found for path in paths]


def _folders(folder: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    """A directory and those below it that are not hidden, each once."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                inside = [e.path for e in entries if e.name[0] != "." and _is_directory(e)]
            waiting += inside
            yield folder


def _below(folder: str, visited: set[tuple[int, int]], unlisted: dict[str, str]) -> Iterator[str]:
    """The files below a directory, those of each directory before its sub-directories."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue  # a link to where we were
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_directory(entry):
                        waiting.append(entry.path)
                    else:
                        yield entry.path
        except OSError as error:
            unlisted[folder] = error.strerror or str(error)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a directory; a link that leads nowhere, or in a circle, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _walk_remote(location: str) -> Iterator[str]:
    try:
        files, path = opened(location)
        is_glob = GLOB.search(location) is not None
        matches = sorted(files.glob(path), key=natural) if is_glob else [path]
        for match in matches:
            if files.isdir(match):
                for folder, _, names in files.walk(match):
                    yield from (files.unstrip_protocol(f"{folder}/{name}") for name in names)
            else:
                yield files.unstrip_protocol(match)
    except Exception as error:  # deliberately broad: every file system raises its own errors
        raise SourceError(
            location,
            found=f"a place that cannot be listed ({type(error).__name__}: {error})",
            expected="a directory or a glob that fsspec can list",
            remedy="Check the address and the credentials of that file system.",
        ) from error
    if not matches:
        raise _nothing(location)


def _nothing(location: str) -> MissingSourceError:
    return MissingSourceError(
        location,
        found="no match for this pattern",
        expected="files or directories",
        remedy="Check the path; quote the pattern if your shell changes it.",
    )
