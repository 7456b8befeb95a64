"""The local directory of a run's artifacts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit
from urllib.request import url2pathname


def artifact_folder(uri: str, folders: Sequence[str], ids: tuple[str, str]) -> str | None:
    """The directory at `uri`, else the one in `folders` for the ids of experiment and run.

    None if neither exists, or if the artifacts are in an object store.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file", "mlflow-artifacts"):
        return None
    path = url2pathname(parts.path) if parts.scheme == "file" else uri
    near = [os.path.join(folder, *ids, "artifacts") for folder in folders]
    return next(
        (each for each in [path, *near] if os.path.isabs(each) and os.path.isdir(each)), None
    )
