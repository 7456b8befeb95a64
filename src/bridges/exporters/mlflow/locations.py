"""Whether this machine reaches an artifact location."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from bridges.formats.mlflow_store.artifact_location import local_path
from bridges.formats.mlflow_store.records import RunRecord
from bridges.stream.finding import Finding, Severity


def is_reachable(location: str) -> bool:
    """Whether a location is remote or an existing directory.

    A relative one depends on an unknown working directory.
    """
    path = local_path(location)
    return path is None or (os.path.isabs(path) and os.path.isdir(path))


@lru_cache(maxsize=1)  # asked several times for each run
def _uri_of(folder: str) -> str:
    """The URI of a directory without symbolic links."""
    parts = (run := os.path.dirname(folder)), folder
    if any(map(os.path.islink, parts)):
        return Path(folder).resolve().as_uri()
    experiment = os.path.dirname(run)
    return Path(f"{_resolved(experiment)}{folder[len(experiment) :]}").as_uri()


@lru_cache(maxsize=1)  # the directories of runs lie in that of their experiment
def _resolved(folder: str) -> str:
    return os.path.realpath(folder)


def artifact_uri(record: RunRecord) -> tuple[str, list[Finding]]:
    """The URI of a run's artifacts, and a finding if it leads nowhere; may be empty.

    The URI of the run's own directory replaces a dead local one.
    """
    uri = record.artifact_uri
    if not uri or is_reachable(uri):
        return uri, []
    if record.artifact_folder:
        return _uri_of(record.artifact_folder), []
    message = "the artifact location does not exist here; the run keeps it"
    return uri, [Finding("artifacts-not-found", Severity.INFO, uri, message)]
