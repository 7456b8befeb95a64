"""The directories that are read as MLflow stores."""

from __future__ import annotations

from collections.abc import Collection

from bridges.sources.folders import Folder
from bridges.sources.mlflow.location import is_part, is_root, is_store_file
from bridges.sources.place import DATABASE_FILES

ARTIFACTS = ("mlruns", "mlartifacts")  # of a database beside them


def claims_of(folder: Folder) -> Collection[str] | None:
    """All directories in a file store or its part; beside a database, those of its artifacts."""
    if "://" in folder.path:
        return None  # file stores and databases are read from local disks only
    names = (*folder.files, *folder.folders)
    if is_root(folder.path, folder.folders) or is_part(folder.path, names):
        return folder.folders
    databases = (name for name in folder.files if name.endswith(DATABASE_FILES))
    return ARTIFACTS if any(is_store_file(folder.join(name)) for name in databases) else None
