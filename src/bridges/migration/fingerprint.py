"""Fingerprints: digests of the files that a task reads and of all that decides what comes of them.

Equal fingerprints mean equal runs in the target; for others nothing is known. Local files count
with their bytes, names and times (which may be a clock), remote ones with what their store says of
their version.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from bridges import __version__
from bridges.migration.config import SAME_RUNS, SourceSpec
from bridges.migration.targets import TargetSpec
from bridges.sources.bundles import Bundle
from bridges.sources.remote import described
from bridges.stream.model import Run

SIZE = 16  # bytes of a digest
CHUNK = 1 << 20  # bytes
# what a target says of how it is reached, not of what it is to hold
REACHED = {*SAME_RUNS, "logdir", "tracking_uri", "wandb_dir"}


class Files:
    """The files that a task reads, and what is known of them from before it does: what changes
    meanwhile is not taken for what was read.

    Of trials the neighbour counts as well. Whether they are such is known when they were read; of
    what was not read, both digests may be that of its runs.
    """

    def __init__(self, place: Bundle | str) -> None:
        """Raises OSError, and ValueError where nothing tells one content from another."""
        self._place = place
        self.neighbour = None if isinstance(place, str) else place.neighbour
        paths = _paths(place, self.neighbour)
        self._then = {path: _state_of(path) for path in paths}
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
        said = repr([_names(self._place), known])
        return hashlib.blake2b(said.encode(), digest_size=SIZE).hexdigest()

    def _content(self, path: str) -> str:
        """A digest of a file; of a remote one, what its store says has to do."""
        if "://" in path:
            return ""
        if path not in self._contents:
            self._contents[path] = _sha256(path)
        return self._contents[path]


def digests_of(place: Bundle | str) -> Iterator[str]:
    """The digests that the files of a task may have; none where that cannot be told."""
    with suppress(Exception):  # deliberately broad: whoever reads the files tells what is wrong
        files = Files(place)
        yield files.digest(of_trials=False)
        if files.neighbour:
            yield files.digest(of_trials=True)


def settings_of(source: SourceSpec, target: TargetSpec, place: str) -> str:
    """A digest of all that a config says of how a source's runs are to be in a target; `place` is
    where in the target those go of which it does not say that.
    """
    said = [
        __version__,
        source.model_dump(mode="json", exclude={"location"}),
        target.model_dump(mode="json", exclude=REACHED),
        place,
    ]
    text = json.dumps(said, sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=SIZE).hexdigest()


def made_of(files: str, settings: str) -> str:
    """The fingerprint of what a source gives in a target."""
    return hashlib.blake2b(f"{files} {settings}".encode(), digest_size=SIZE).hexdigest()


def _paths(place: Bundle | str, neighbour: str | None) -> list[str]:
    own = [place] if isinstance(place, str) else sorted(place.files)
    return [*own, neighbour] if neighbour else own


def _names(place: Bundle | str) -> Sequence[Any]:
    """What else decides how the runs of a place are called."""
    if isinstance(place, str):
        return []
    return [place.location, sorted(place.depths), place.checkpoints, place.neighbour]


def _state_of(path: str) -> str | int:
    """What is told of a file without reading it: when it was changed, or what its store says.

    Raises OSError, and ValueError where nothing tells one content from another.
    """
    if "://" not in path:
        return os.stat(path).st_mtime_ns
    said = described(path)
    if said is None:
        raise ValueError(path)
    return said


def _sha256(path: str) -> str:
    """That of a file: processors have instructions for it."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size + 1, CHUNK)  # no more than a small file takes
        while chunk := file.read(size):
            digest.update(chunk)
    return digest.hexdigest()
