"""Copies the artifacts of one run and its logged models, or compares them with the copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bridges.exporters.atomic_files import only_one
from bridges.exporters.mlflow.artifact_copy.copy_tree import Copying, Mode
from bridges.exporters.mlflow.artifact_copy.homes import Homes
from bridges.exporters.mlflow.artifact_copy.local_tree import remove_leftovers
from bridges.exporters.mlflow.artifact_copy.sources import Owner, SourceTrees, owners_of
from bridges.exporters.mlflow.artifact_copy.trees import FileError, NoFiles
from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.records import RunRecord
from bridges.report import ArtifactCounts
from bridges.stream.finding import Finding


def copy_run(
    record: RunRecord,
    sources: SourceTrees,
    homes: Homes | None,
    mode: Mode,
    on_progress: Callable[[str], None],
) -> tuple[ArtifactCounts, list[Finding]]:
    """Copy the files, and then let the run and its models point to them.

    Without `homes`, the run is not in the target yet. Files that cannot be copied are in the
    findings. Raises ExportError.
    """
    copying, done = Copying(mode, on_progress), dict[Owner, str]()
    for owner in owners_of(record):
        try:
            source = sources.of(owner, record) or NoFiles()
            if homes is None:
                copying.tree(source, NoFiles(), owner.label)
                continue
            home = homes.find(owner)
            with _alone(home, mode):
                copying.tree(source, homes.tree(home), owner.label)
            done[owner] = home
        except FileError as error:
            copying.problem(owner.location, str(error))
    if homes is not None and mode == "copy":
        homes.put(done)
    return copying.counts, copying.findings


@contextmanager
def _alone(home: str, mode: Mode) -> Iterator[None]:
    """No other process of this user copies into the location at the same time."""
    if mode != "copy":
        yield
        return
    name = hashlib.blake2b(home.encode(errors="surrogateescape"), digest_size=8).hexdigest()
    with only_one(f"artifacts-{name}"):
        if path := local_path(home):
            remove_leftovers(path)
        yield
