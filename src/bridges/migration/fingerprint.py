"""Fingerprints: digests of the files that a task reads and of all that decides what comes of them.

Equal fingerprints mean equal runs in the target; for others nothing is known. Local files count
with their bytes, names and times (which may be a clock), remote ones with what their store says of
their version. Where local files look as they did when they were read (their size, inode, and above
all the time of their last change, which no program sets), their bytes are not read for that.
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
from bridges.migration.config import SAME_RUNS, SourceSpec
from bridges.migration.targets import TargetSpec
from bridges.sources.base import Part
from bridges.sources.remote import described
from bridges.stream.layout import RULES
from bridges.stream.model import Run

SIZE = 16  # bytes of a digest
CHUNK = 1 << 20  # bytes
SETTLED = 2_000_000_000  # nanoseconds after a change: a later one gets another time on any disk
# what a target says of how it is reached, not of what it is to hold
REACHED = {*SAME_RUNS, "logdir", "tracking_uri", "wandb_dir"}


class Files:
    """The files that a task reads, and what is known of them from before it does: what changes
    meanwhile is not taken for what was read.

    `looks` is a digest of how they look, empty where that does not tell one content from another.
    Of trials the neighbour counts as well. Whether they are such is known when they were read; of
    what was not read, both digests may be that of its runs.
    """

    def __init__(self, place: Part | str) -> None:
        """Raises OSError, and ValueError where nothing tells one content from another, as of a
        named pipe, which must not even be opened.
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
        self.looks = _digest([_names(place), _looks(local)]) if tells else ""
        self._contents: dict[str, str] = {}
        self._has_trials = False

    def was_read(self, run: Run) -> None:
        """A run was made of some of them, which need not be read again for their digest."""
        self._has_trials |= run.trial is not None
        self._contents |= {file.location: file.sha256 for file in run.provenance}

    def digest(self, *, of_trials: bool | None = None) -> str:
        """One of all that decides which runs they give. Raises OSError."""
        of_trials = self._has_trials if of_trials is None else of_trials
        paths = _paths(self._place, self.neighbour if of_trials else None)
        known = [(path, self._then[path], self._content(path)) for path in paths]
        return _digest([_names(self._place), known])

    def _content(self, path: str) -> str:
        """A digest of a file; of a remote one, what its store says has to do."""
        if "://" in path:
            return ""
        if path not in self._contents:
            self._contents[path] = _sha256(path)
        return self._contents[path]


def digests_of(place: Part | str) -> Iterator[str]:
    """The digests that the files of a task may have; none where that cannot be told."""
    with suppress(Exception):  # deliberately broad: whoever reads the files tells what is wrong
        files = Files(place)
        if files.looks:
            yield files.looks
        yield files.digest(of_trials=False)
        if files.neighbour:
            yield files.digest(of_trials=True)


def settings_of(source: SourceSpec, target: TargetSpec, place: str) -> str:
    """A digest of all that a config says of how a source's runs are to be in a target; `place` is
    where in the target those go of which it does not say that.
    """
    said = [
        [__version__, RULES],
        source.model_dump(mode="json", exclude={"location"}),
        target.model_dump(mode="json", exclude=REACHED),
        place,
    ]
    text = json.dumps(said, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=SIZE).hexdigest()


def made_of(files: str, settings: str) -> str:
    """The fingerprint of what a source gives in a target."""
    return hashlib.blake2b(f"{files} {settings}".encode(), digest_size=SIZE).hexdigest()


def _paths(place: Part | str, neighbour: str | None) -> list[str]:
    own = [place] if isinstance(place, str) else sorted(place.files)
    return [*own, neighbour] if neighbour else own


def _names(place: Part | str) -> Sequence[Any]:
    """What else decides how the runs of a place are called."""
    return [] if isinstance(place, str) else [*place.names]


def _version(url: str) -> str:
    """What the store of a remote file says of its version. Raises ValueError where it says none."""
    said = described(url)
    if said is None:
        raise ValueError(url)
    return said


def _looks(files: Mapping[str, os.stat_result]) -> list[tuple[Any, ...]]:
    return [
        (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in files.items()
    ]


def _is_settled(status: os.stat_result) -> bool:
    """Whether whatever changes a file from now on gives it another time of change, which on
    Windows is not told.
    """
    return os.name == "posix" and time.time_ns() - status.st_ctime_ns > SETTLED


def _digest(known: Any) -> str:
    return hashlib.blake2b(repr(known).encode(), digest_size=SIZE).hexdigest()


def _sha256(path: str) -> str:
    """That of a file: processors have instructions for it."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size + 1, CHUNK)  # no more than a small file takes
        while chunk := file.read(size):
            digest.update(chunk)
    return digest.hexdigest()
