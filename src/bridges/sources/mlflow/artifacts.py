"""The local directory of a run's artifacts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit


def artifact_folder(uri: str, near: Sequence[str]) -> str | None:
    """The directory at `uri`, else the first of the directories `near` that exists.

    None without any, or if the artifacts are in an object store.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file", "mlflow-artifacts"):
        return None
    path = _path_of(parts.path) if parts.scheme == "file" else uri
    places = [*([path] if os.path.isabs(path) else []), *near]
    return next((os.path.abspath(each) for each in places if os.path.isdir(each)), None)


def _path_of(path: str) -> str:
    """The path in the URL of a file."""
    if os.name != "nt":
        return unquote(path)
    from urllib.request import url2pathname  # slow to import

    return url2pathname(path)
