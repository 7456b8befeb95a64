"""Attached files: artifacts of an MLflow run, stored below its `artifact_uri`.

A tag of the run holds the digest of the attached files: equal files are stored once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from bridges.errors import ExportError
from bridges.exporters.atomic_files import write_file
from bridges.formats.mlflow_store.artifact_location import local_path

ATTACHED_TAG = "bridges.attached"
FOLDER = "source"  # within the run's artifacts


def digest(files: Mapping[str, bytes]) -> str:
    """The SHA-256 of names and contents, as 64 hex digits."""
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{len(name)} {name} {len(content)} ".encode())
        total.update(content)
    return total.hexdigest()


def put_file(artifact_uri: str, name: str, content: bytes) -> None:
    """Write one file below an artifact URI: a path, a `file:` URI or any URI of fsspec.

    Raises ExportError.
    """
    location, folder = f"{artifact_uri.rstrip('/')}/{FOLDER}/{name}", local_path(artifact_uri)
    try:
        if folder is not None:
            _put_local(os.path.join(folder, FOLDER, name), content)
            return
        import fsspec  # slow import, not needed for local artifacts

        with fsspec.open(location, "wb") as file:
            file.write(content)
    except Exception as error:  # deliberately broad: every file system raises its own errors
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise ExportError(f"{location} cannot be written: {reason}") from error


def _put_local(path: str, content: bytes) -> None:
    partial = f"{path}.bridges-{os.getpid()}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_file(partial, [content])
    os.replace(partial, path)
