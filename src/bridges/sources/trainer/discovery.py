"""Discovery: find the histories below a location by listing it; no file is read.

A tree is a directory, a glob, or an fsspec URL of either. Symbolic links are followed; each
directory is visited once.
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
from bridges.sources.fetch import MissingSourceError
from bridges.sources.file_names import (
    EVENTS_NAME,
    RESULTS_NAME,
    SETTINGS_NAMES,
    STATE_NAME,
    TOOL_LOG_NAME,
)
from bridges.sources.remote import opened
from bridges.sources.trainer.checkpoint_paths import CHECKPOINT, output_of
from bridges.sources.trainer.locations import GLOB, is_tree
from bridges.stream.finding import Finding

HISTORY_SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt", ".gz")
_NO_HISTORY = re.compile(  # JSON files that transformers saves with a model
    r"(.*config|.*\.index|tokenizer|vocab|added_tokens|special_tokens_map|merges)\.(json|txt)\Z"
)


@dataclass(slots=True)
class FoundFiles:
    """The files of a tree, by kind.

    `sidecars` (settings and results files), `logs` (files named like a tuning tool's log) and
    `events` (event files) are grouped by directory. `others` counts the remaining files by suffix.
    `metas` are the directories with a meta.yaml, as in MLflow's stores, and `wandb_runs` those with
    the log of a W&B run. `checkpoints` are checkpoint directories. `unlisted` maps a directory
    that cannot be listed to the reason. `notes` are findings about the logs of other sources.

    A file whose name matches `pattern` counts as a state; `by_pattern` holds those recognised by
    the pattern alone.
    """

    states: list[str] = field(default_factory=list)
    sidecars: dict[str, list[str]] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    events: dict[str, list[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    metas: list[str] = field(default_factory=list)
    wandb_runs: list[str] = field(default_factory=list)
    checkpoints: set[str] = field(default_factory=set)
    unlisted: dict[str, str] = field(default_factory=dict)
    notes: tuple[Finding, ...] = ()
    pattern: str = ""
    by_pattern: set[str] = field(default_factory=set)

    def add(self, path: str) -> None:
        """Add one file."""
        folder, _, name = path.replace(os.sep, "/").rpartition("/")
        if CHECKPOINT.match(folder.rpartition("/")[2]):
            self.checkpoints.add(folder)
        if STATE_NAME.match(name):
            self.states.append(path)
        elif name in SETTINGS_NAMES or RESULTS_NAME.match(name):
            self.sidecars.setdefault(folder, []).append(path)
        elif EVENTS_NAME.match(name):
            self.events.setdefault(folder, []).append(path)
        elif TOOL_LOG_NAME.match(name):
            self.logs.setdefault(folder, []).append(path)
        elif fnmatchcase(name, self.pattern) and not _NO_HISTORY.match(name):
            self.states.append(path)
            self.by_pattern.add(path)
        else:
            if name == "meta.yaml":
                self.metas.append(folder)
            elif name.endswith(".wandb"):
                self.wandb_runs.append(folder)
            self.ignore(name)

    def ignore(self, name: str) -> None:
        """Count a file of another kind."""
        self.others[os.path.splitext(name)[1] or name] += 1

    @property
    def readable(self) -> list[str]:
        """States, sidecars and logs: a change of any of them can change a run."""
        others = (*self.sidecars.values(), *self.logs.values())
        return [*self.states, *(path for paths in others for path in paths)]

    def checkpoints_without_state(self) -> dict[str, list[str]]:
        """Names of the checkpoints that lack a state, by output directory."""
        found: dict[str, list[str]] = {}
        with_state = {path.replace(os.sep, "/").rpartition("/")[0] for path in self.states}
        for folder in sorted(self.checkpoints - with_state, key=natural):
            name = folder.rpartition("/")[2]
            found.setdefault(output_of(f"{folder}/"), []).append(name)
        return found


def discover(location: str) -> FoundFiles:
    """The files below a location. Raises SourceError if the location itself cannot be listed."""
    found = FoundFiles(pattern=_file_pattern(location))
    for path in walk(location, found.unlisted):
        found.add(path)
    if location in found.unlisted:
        raise unlisted(location, found.unlisted[location])
    found.states.sort(key=natural)
    return found


def _file_pattern(location: str) -> str:
    """The last part of a glob with a history suffix, such as `*.json`; empty if it has none."""
    last = location.replace(os.sep, "/").rpartition("/")[2]
    is_pattern = GLOB.search(last) and last.endswith(HISTORY_SUFFIXES)
    return last if is_pattern and is_tree(location) else ""


def walk(location: str, unlisted: dict[str, str] | None = None) -> Iterator[str]:
    """Every file below a location. Raises SourceError.

    A directory that cannot be listed is skipped and added to `unlisted` with the reason.
    """
    if "://" in location:
        return _walk_remote(location)
    return _walk_local(location, {} if unlisted is None else unlisted)


def has_name(folder: str, pattern: re.Pattern[str]) -> bool:
    """Whether the name of a file below a directory matches a pattern."""
    return any(pattern.match(entry.name) for entry in _entries_below(folder, set(), {}))


def unlisted(folder: str, reason: str) -> SourceError:
    """The error for a directory that cannot be listed."""
    return SourceError(
        folder,
        found=f"a directory that cannot be listed ({reason})",
        expected="a readable directory",
        remedy="Check its permissions, or name the files to read.",
    )


def natural(path: str) -> list[Any]:
    """Sort key for natural order: checkpoint-500 before checkpoint-1000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]


def _walk_local(location: str, unlisted: dict[str, str]) -> Iterator[str]:
    if os.path.isdir(location):
        yield from _below(location, set(), unlisted)
        return
    matches = sorted(_matches(location), key=natural)
    if not matches:
        raise _no_match(location)
    visited: set[tuple[int, int]] = set()
    for match in matches:
        if os.path.isdir(match):
            yield from _below(match, visited, unlisted)
        else:
            yield match


def _matches(pattern: str) -> list[str]:
    """The paths that match a glob.

    `**` is walked here, because `glob` follows symbolic links in a circle.
    """
    import glob

    if re.search(r"(\A|/)[*][*]/?\Z", pattern):  # everything below a directory
        return _matches(re.sub(r"/?[*][*]/?\Z", "", pattern) or os.curdir)
    base, stars, rest = re.sub(r"[*][*](?:/[*][*])+", "**", pattern).partition("**/")
    if not stars or not (base == "" or base.endswith("/")):
        return glob.glob(pattern, recursive=True)
    folders: list[str] = []
    for start in glob.glob(base) if base else [os.curdir]:
        folders += _folders(start, set())
    paths = (os.path.normpath(folder) if base else os.path.relpath(folder) for folder in folders)
    found = (_matches(os.path.join(glob.escape(path), rest)) for path in paths)
    return [os.path.normpath(path) for matches in found for path in matches]


def _folders(folder: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    """A directory and its sub-directories, hidden ones excluded, each once."""
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
    """The files below a directory; those of each directory precede its sub-directories'."""
    return (entry.path for entry in _entries_below(folder, visited, unlisted))


def _entries_below(
    folder: str, visited: set[tuple[int, int]], unlisted: dict[str, str]
) -> Iterator[os.DirEntry[str]]:
    """The same files as entries of their directories."""
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                continue  # a link to a directory already visited
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_directory(entry):
                        waiting.append(entry.path)
                    else:
                        yield entry
        except OSError as error:
            unlisted[folder] = error.strerror or str(error)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a directory; false for a link that is broken or circular."""
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
            found=f"a location that cannot be listed ({type(error).__name__}: {error})",
            expected="a directory or a glob that fsspec can list",
            remedy="Check the address and the credentials of that file system.",
        ) from error
    if not matches:
        raise _no_match(location)


def _no_match(location: str) -> MissingSourceError:
    return MissingSourceError(
        location,
        found="no match for this pattern",
        expected="files or directories",
        remedy="Check the path; quote the pattern if your shell changes it.",
    )
