"""Fingerprints: digests of the files of a task and of the settings that decide its runs.

Equal fingerprints mean equal runs in the target; different ones mean nothing. The content
fingerprint covers the bytes, names and mtimes (a possible clock) of local files, and the version of
remote files. The stat fingerprint covers size, inode and ctime of local files, which no program
can set: if it is unchanged, the bytes are not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from bridges import __version__
from bridges.migration.config.config import SAME_RUNS, SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.sources.base import Part
from bridges.sources.remote import described
from bridges.stream.layout import RULES
from bridges.stream.model import Run

SIZE = 16  # bytes of a digest
CHUNK = 1 << 20  # bytes
SETTLED = 2_000_000_000  # nanoseconds: later changes have another ctime on any file system
# settings of a target that locate it and do not change its runs
REACHED = {*SAME_RUNS, "logdir", "tracking_uri", "wandb_dir"}


class Files:
    """The files of a task, with their state from before they are read: later changes are detected.

    `stat_fingerprint` is empty if the files changed too recently, or are remote: then equal stats
    do not prove equal content. For trials the neighbour file counts as well. Only reading shows
    whether a task has trials, so files that were not read have two possible content digests.
    """

    def __init__(self, place: Part | str) -> None:
        """Raises OSError, and ValueError for a file without a comparable state.

        A named pipe is such a file, and must not be opened.
        """
        self._place = place
        self.neighbour = None if isinstance(place, str) else place.neighbour
        paths = _paths(place, self.neighbour)
        local = {path: os.stat(path) for path in paths if "://" not in path}
        if not all(stat.S_ISREG(status.st_mode) for status in local.values()):
            raise ValueError(paths)
        self._then = {
            path: local[path].st_mtime_ns if path in local else _version(path) for path in paths
        }
        tells = len(local) == len(paths) and all(map(_is_settled, local.values()))
        self.stat_fingerprint = _digest([_names(place), _stats(local)]) if tells else ""
        self._contents: dict[str, str] = {}
        self._has_trials = False

    def was_read(self, run: Run) -> None:
        """Take the digests of the files that a run was read from, so they are not read again."""
        self._has_trials |= run.trial is not None
        self._contents |= {file.location: file.sha256 for file in run.provenance}

    def digest(self, *, of_trials: bool | None = None) -> str:
        """The digest of names, mtimes and contents. Raises OSError."""
        of_trials = self._has_trials if of_trials is None else of_trials
        paths = _paths(self._place, self.neighbour if of_trials else None)
        known = [(path, self._then[path], self._content(path)) for path in paths]
        return _digest([_names(self._place), known])

    def _content(self, path: str) -> str:
        """The SHA-256 of a local file; empty for a remote file, which has its version instead."""
        if "://" in path:
            return ""
        if path not in self._contents:
            self._contents[path] = _sha256(path)
        return self._contents[path]


def digests_of(place: Part | str) -> Iterator[str]:
    """The possible digests of the files of a task; none if they cannot be compared."""
    with suppress(Exception):  # deliberately broad: reading the files reports the error
        files = Files(place)
        if files.stat_fingerprint:
            yield files.stat_fingerprint
        yield files.digest(of_trials=False)
        if files.neighbour:
            yield files.digest(of_trials=True)


def settings_of(source: SourceSpec, target: TargetSpec, place: str) -> str:
    """A digest of all settings that decide how the runs of a source are written to a target.

    `place` is the default experiment or project of the target.
    """
    said = [
        [__version__, RULES],
        source.model_dump(mode="json", exclude={"location"}),
        target.model_dump(mode="json", exclude=REACHED),
        place,
    ]
    text = json.dumps(said, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=SIZE).hexdigest()


def combined(files: str, settings: str) -> str:
    """The fingerprint of a source in a target: files and settings."""
    return hashlib.blake2b(f"{files} {settings}".encode(), digest_size=SIZE).hexdigest()


def _paths(place: Part | str, neighbour: str | None) -> list[str]:
    own = [place] if isinstance(place, str) else sorted(place.files)
    return [*own, neighbour] if neighbour else own


def _names(place: Part | str) -> Sequence[Any]:
    """The names of a part, which its run names are made from."""
    return [] if isinstance(place, str) else [*place.names]


def _version(url: str) -> str:
    """The version of a remote file, as its store reports it. Raises ValueError if there is none."""
    said = described(url)
    if said is None:
        raise ValueError(url)
    return said


def _stats(files: Mapping[str, os.stat_result]) -> list[tuple[Any, ...]]:
    return [
        (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in files.items()
    ]


def _is_settled(status: os.stat_result) -> bool:
    """Whether any later change gives the file another ctime. Windows has no such time."""
    return os.name == "posix" and time.time_ns() - status.st_ctime_ns > SETTLED


def _digest(known: Any) -> str:
    return hashlib.blake2b(repr(known).encode(), digest_size=SIZE).hexdigest()


def _sha256(path: str) -> str:
    """The SHA-256 of a file, which processors compute in hardware."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size + 1, CHUNK)  # small files need a small buffer
        while chunk := file.read(size):
            digest.update(chunk)
    return digest.hexdigest()
