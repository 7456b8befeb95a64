"""Fingerprints: digests of the files that a task reads and of all that decides what comes of them.

Equal fingerprints mean equal runs in the target; for others nothing is known. Local files count
with their bytes, names and times (which may be a clock), remote ones with what their store says of
their version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from typing import Any

from bridges import __version__
from bridges.migration.config import SAME_RUNS, SourceSpec
from bridges.migration.targets import TargetSpec
from bridges.sources.bundles import Bundle
from bridges.sources.remote import described
from bridges.stream.model import Run

SIZE = 16  # bytes of a digest
CHUNK = 1 << 20  # bytes
# a state of a trial, for which its neighbour counts; what is taken for one is read once more
TRIAL = re.compile(rb'"trial_(?:name|params)"\s*:\s*(?!null|""|\{\s*\}|\s)')
OVERLAP = 64  # bytes of a chunk that are looked at with the next one
# what a target says of how it is reached, not of what it is to hold
REACHED = {*SAME_RUNS, "logdir", "tracking_uri", "wandb_dir"}


class Files:
    """The files that a task reads, and what is known of them from before it does: what changes
    meanwhile is not taken for what was read.
    """

    def __init__(self, place: Bundle | str) -> None:
        """Raises OSError, and ValueError where nothing tells one content from another."""
        self._place = place
        self._neighbour = None if isinstance(place, str) else place.neighbour
        paths = _paths(place) + ([self._neighbour] if self._neighbour else [])
        self._then = {path: _state_of(path) for path in paths}
        self._read: dict[str, tuple[str, bool]] = {}

    def was_read(self, run: Run) -> None:
        """A run was made of some of them, which need not be read again for their digest."""
        for file in run.provenance:
            is_trial = run.trial is not None or file.location.endswith(".gz")
            self._read[file.location] = file.sha256, is_trial

    def digest(self) -> str:
        """One of all that decides which runs they give. Raises OSError and ValueError."""
        paths = _paths(self._place)
        contents = [self._content(path) for path in paths]
        if self._neighbour and any(is_trial for _, is_trial in contents):
            paths.append(self._neighbour)
            contents.append(self._content(self._neighbour))
        then = [self._then[path] for path in paths]
        known = [_names(self._place), paths, then, [digest for digest, _ in contents]]
        return hashlib.blake2b(repr(known).encode(), digest_size=SIZE).hexdigest()

    def _content(self, path: str) -> tuple[str, bool]:
        """A digest of a file, and whether it may be the state of a trial."""
        if "://" in path:  # what the store says of it has to do
            return "", True
        if path not in self._read:
            self._read[path] = _local(path)
        return self._read[path]


def files_of(place: Bundle | str) -> str | None:
    """A digest of the files that a task reads; None where that cannot be told."""
    try:
        return Files(place).digest()
    except Exception:  # deliberately broad: whoever reads the files tells what is wrong
        return None


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


def _paths(place: Bundle | str) -> list[str]:
    return [place] if isinstance(place, str) else sorted(place.files)


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


def _local(path: str) -> tuple[str, bool]:
    """A digest of a file, and whether it may be the state of a trial."""
    digest = hashlib.sha256()  # which processors have instructions for
    is_trial, end = path.endswith(".gz"), b""
    with open(path, "rb", buffering=0) as file:
        size = min(os.fstat(file.fileno()).st_size + 1, CHUNK)  # no more than a small file takes
        while chunk := file.read(size):
            digest.update(chunk)
            text = end + chunk
            is_trial = is_trial or (b'"trial_' in text and TRIAL.search(text) is not None)
            end = chunk[-OVERLAP:]
    return digest.hexdigest(), is_trial
