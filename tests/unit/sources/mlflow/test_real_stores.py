"""File stores of public repositories: all runs and points of the index arrive, and nothing else."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path

import pytest

from bridges.sources.mlflow.file_store import FileStore
from tests.support import SHARED

STORES = SHARED / "corpus_trackers" / "mlflow"  # third-party data, never part of the repository
INDEX = STORES / "index.tsv"
IN_DATABASES = {"aya115__mlops": (7, 2)}  # runs and points of the index that are not in files


def rows() -> list[dict[str, str]]:
    if not INDEX.exists():
        return []
    with INDEX.open(newline="") as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if "mlruns" in row["path"]
                or row["path"] == "runs/mlflow"]  # fmt: skip


def file_store_of(row: dict[str, str], folder: Path) -> Path:
    """The file store in the unpacked archive of a row."""
    return folder / row["name"] / row["path"].split(" + ")[0]


needs_stores = pytest.mark.skipif(
    not INDEX.exists(), reason=f"the stores of other people are not at {STORES}"
)


@needs_stores
def test_there_are_real_stores() -> None:
    assert len(rows()) == 6


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_runs_and_points_are_those_of_the_index(row: dict[str, str], tmp_path: Path) -> None:
    with tarfile.open(STORES / f"{row['name']}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    store = FileStore(str(file_store_of(row, tmp_path)))
    found = [
        store.read(head) for experiment in store.experiments() for head in store.heads(experiment)
    ]
    points = sum(len(metric.time) for _, metrics in found for metric in metrics)
    runs_elsewhere, points_elsewhere = IN_DATABASES.get(row["name"], (0, 0))
    assert len(found) == int(row["runs"]) - runs_elsewhere
    assert points == int(row["points"]) - points_elsewhere
    assert [error.found for error in store.errors] == []
    assert [each.code for record, _ in found for each in record.findings] == []
