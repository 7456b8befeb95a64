"""The local directory of the artifacts of a run or a logged model."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bridges.formats.mlflow_store.artifact_location import local_path


def artifact_folder(uri: str, near: Sequence[str]) -> str | None:
    """The directory at `uri`, else the first of the directories `near` that exists.

    None without any, or if the artifacts are in an object store.
    """
    path = local_path(uri)
    if path is None and not uri.startswith("mlflow-artifacts:"):
        return None
    places = [*([path] if path and os.path.isabs(path) else []), *near]
    return next((os.path.abspath(each) for each in places if os.path.isdir(each)), None)
