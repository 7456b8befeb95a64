"""The stores of tests/data/mlflow_stores, which `tests/golden/make_mlflow_stores.py` made."""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.support import DATA

STORES = DATA / "mlflow_stores"
RELEASES = ("0.8.2", "1.0.0", "1.30.1", "2.9.2", "2.22.0", "3.12.0", "3.17.2")
DATABASE_RELEASES = RELEASES[1:]  # mlflow 0.8 had file stores only
REPEATS = "repeats"  # a file store with an exact repeat


def unpack_store(name: str, folder: Path) -> Path:
    """Unpack the file store of a release, or `REPEATS`; its `mlruns` directory."""
    return _unpack(name, folder, "mlruns")


def unpack_database(name: str, folder: Path) -> Path:
    """Unpack the SQLite database of a release; its `mlflow.db`."""
    return _unpack(name, folder, "mlflow.db")


def _unpack(name: str, folder: Path, root: str) -> Path:
    with tarfile.open(STORES / f"{name}.tar.xz") as archive:
        members = [each for each in archive.getmembers() if each.name.split("/")[0] == root]
        for member in members:
            archive.extract(member, folder)
    return folder / root
