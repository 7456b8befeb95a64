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
from collections.abc import Iterable
from typing import Any

from bridges import __version__
from bridges.migration.config import SAME_RUNS, SourceSpec
from bridges.migration.targets import TargetSpec
from bridges.sources.bundles import Bundle
from bridges.sources.remote import described

SIZE = 16  # bytes of a digest
CHUNK = 1 << 20  # bytes
# a state of a trial, for which its neighbour counts; what is taken for one is read once more
TRIAL = re.compile(rb'"trial_(?:name|params)"\s*:\s*(?!null|\s)')
OVERLAP = 64  # bytes of a chunk that are looked at with the next one
# what a target says of how it is reached, not of what it is to hold
REACHED = {*SAME_RUNS, "logdir", "tracking_uri", "wandb_dir"}


def files_of(place: Bundle | str) -> str | None:
    """A digest of the files that a task reads; None where that cannot be told."""
    digest = hashlib.blake2b(digest_size=SIZE)
    paths, names = _paths(place)
    digest.update(json.dumps(names).encode())
    try:
        read = [_read(path) for path in paths]
        neighbour = None if isinstance(place, str) else place.neighbour
        if neighbour and any(is_trial for _, is_trial in read):
            read.append(_read(neighbour))
    except Exception:  # deliberately broad: whoever reads the files tells what is wrong
        return None
    for part, _ in read:
        digest.update(part)
    return digest.hexdigest()


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


def _paths(place: Bundle | str) -> tuple[Iterable[str], Any]:
    """The files to read, and what else decides how their runs are called."""
    if isinstance(place, str):
        return [place], place
    names = [place.location, sorted(place.depths), place.checkpoints, place.neighbour]
    return sorted(place.files), names


def _read(path: str) -> tuple[bytes, bool]:
    return _remote(path) if "://" in path else _local(path)


def _local(path: str) -> tuple[bytes, bool]:
    """A digest of a file, and whether it may be the state of a trial."""
    digest = hashlib.sha256()  # which processors have instructions for
    is_trial, end = path.endswith(".gz"), b""
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        digest.update(f"{path}\n{status.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
        size = min(status.st_size + 1, CHUNK)  # no more memory than a small file takes
        while chunk := file.read(size):
            digest.update(chunk)
            text = end + chunk
            is_trial = is_trial or (b'"trial_' in text and TRIAL.search(text) is not None)
            end = chunk[-OVERLAP:]
    return digest.digest(), is_trial


def _remote(url: str) -> tuple[bytes, bool]:
    """What the store says of a file, which may be a trial's: it is not read.

    Raises ValueError where nothing tells one content from another.
    """
    said = described(url)
    if said is None:
        raise ValueError(url)
    return f"{url}\n{said}".encode("utf-8", "surrogatepass"), True
