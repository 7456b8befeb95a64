"""Fingerprints: digests of the files and settings of a task.

Equal fingerprints mean equal runs in the target; different fingerprints prove nothing. The content
fingerprint covers the bytes, names and mtimes (a possible clock) of local files, and the version of
remote files. The stat fingerprint covers size, inode and ctime of local files; no program can set
the ctime, so if it is unchanged, the bytes are not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

from bridges import __version__
from bridges.exporters.built_in import PATHS
from bridges.migration.config.config import SAME_RUNS, SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.sources.base import Part
from bridges.sources.remote import described
from bridges.sources.tables.own_formats import declared
from bridges.stream.layout import RULES
from bridges.stream.model import Run

DIGEST_BYTES = 16
CHUNK_BYTES = 1 << 20
SETTLED_NANOSECONDS = 2_000_000_000  # after this time, a change has another ctime everywhere
# settings of a target that locate it and do not change its runs
LOCATING = {*SAME_RUNS, *PATHS, "tracking_uri"}


class Files:
    """The files of a task, with their state before reading: later changes are detected.

    `stat_fingerprint` is empty for remote files and after a recent change: then equal stats do not
    prove equal content. For trials, the neighbour file counts too. Only reading shows whether a
    task has trials, so unread files have two possible content digests.
    """

    def __init__(self, place: Part | str) -> None:
        """Raises OSError, and ValueError for a file without a comparable state, such as a pipe."""
        self._place = place
        self.neighbour = None if isinstance(place, str) else place.neighbour
        paths = _paths(place, self.neighbour)
        local = {path: os.stat(path) for path in paths if "://" not in path}
        if not all(stat.S_ISREG(status.st_mode) for status in local.values()):
            raise ValueError(paths)
        self._then = {
            path: local[path].st_mtime_ns if path in local else _version(path) for path in paths
        }
        is_local = 0 < len(paths) == len(local)  # without any file, the names are compared
        is_settled = is_local and all(map(_is_settled, local.values()))
        self.stat_fingerprint = _digest([_names(place), _stats(local)]) if is_settled else ""
        self._contents: dict[str, str] = {}
        self._has_trials = False

    def was_read(self, run: Run) -> None:
        """Take the digests of a run's files from its provenance, to avoid reading them again."""
        self._has_trials |= run.trial is not None
        self._contents |= {file.location: file.sha256 for file in run.provenance}

    def digest(self, *, of_trials: bool | None = None) -> str:
        """The digest of names, mtimes and contents. Raises OSError."""
        of_trials = self._has_trials if of_trials is None else of_trials
        paths = _paths(self._place, self.neighbour if of_trials else None)
        known = [(path, self._then[path], self._content(path)) for path in paths]
        return _digest([_names(self._place), known])

    def _content(self, path: str) -> str:
        """The SHA-256 of a local file; empty for a remote file, as its version is used."""
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
    """A digest of all settings of a source and a target that change its runs.

    `place` is the default experiment or project of the target.
    """
    settings: list[object] = [
        [__version__, RULES],
        source.model_dump(mode="json", exclude={"location"}),
        target.model_dump(mode="json", exclude=LOCATING),
        place,
    ]
    if formats := declared(source.read_options()):
        settings.append({name: asdict(each) for name, each in formats.items()})
    text = json.dumps(settings, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def combined(files: str, settings: str) -> str:
    """The fingerprint of a source in a target: files and settings."""
    return hashlib.blake2b(f"{files} {settings}".encode(), digest_size=DIGEST_BYTES).hexdigest()


def _paths(place: Part | str, neighbour: str | None) -> list[str]:
    own = [place] if isinstance(place, str) else sorted(place.files)
    return [*own, neighbour] if neighbour else own


def _names(place: Part | str) -> Sequence[object]:
    """The names of a part, the source of its run names."""
    return [] if isinstance(place, str) else [*place.names]


def _version(url: str) -> str:
    """The version of a remote file, reported by its store. Raises ValueError without one."""
    version = described(url)
    if version is None:
        raise ValueError(url)
    return version


def _stats(files: Mapping[str, os.stat_result]) -> list[tuple[object, ...]]:
    return [
        (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in files.items()
    ]


def _is_settled(status: os.stat_result) -> bool:
    """Whether any later change gives the file another ctime; False on Windows."""
    return os.name == "posix" and time.time_ns() - status.st_ctime_ns > SETTLED_NANOSECONDS


def _digest(known: object) -> str:
    return hashlib.blake2b(repr(known).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _sha256(path: str) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size + 1, CHUNK_BYTES)  # small file, small buffer
        while chunk := file.read(size):
            digest.update(chunk)
    return digest.hexdigest()
