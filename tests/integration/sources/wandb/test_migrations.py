"""Migrations of folders of W&B runs: known runs are not read again, and Dask workers share them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

import bridges
from bridges.migration.config.config import MigrationConfig
from bridges.report import BatchReport
from tests.dask_cluster import dask_cluster
from tests.wandb_runs import EARLY, RELEASES, unpack_runs

FINISHED = 6  # of the runs of a release: the others have no rows, or texts


def folder_of(release: str, place: Path) -> Path:
    """The runs of a release without the one with texts."""
    folder = unpack_runs(release, place)
    for run in folder.glob("*-id-values"):
        shutil.rmtree(run)
    return folder


def migration(folder: Path, place: Path, **engine: object) -> MigrationConfig:
    """A migration of a folder into MLflow and TensorBoard."""
    targets = [
        {"to": "mlflow", "tracking_uri": f"sqlite:///{place}/target.db"},
        {"to": "tensorboard", "logdir": str(place / "logs")},
    ]
    document = {"sources": [str(folder)], "targets": targets, "engine": engine}
    return MigrationConfig.model_validate(document)


def statuses(report: BatchReport) -> Counter[str]:
    assert report.exit_code == 0
    assert all(run.verified is not False for run in report.runs)
    return Counter(str(run.status) for run in report.runs)


def known(report: BatchReport) -> int:
    """The number of runs that were not read."""
    return sum("known-by-its-files" in [f.code for f in run.findings] for run in report.runs)


@pytest.mark.parametrize("release", [EARLY, RELEASES[-1]])
def test_known_runs_are_not_read_again_and_a_new_directory_is(release: str, tmp_path: Path) -> None:
    folder = folder_of(release, tmp_path)
    count = len({path.name.partition("-id-")[2] for path in folder.iterdir()}) - 1  # one is empty
    *_, second = sorted(folder.glob("*-id-resumed"))
    later = shutil.move(second, tmp_path / second.name)
    spec = migration(folder, tmp_path, workers=2)
    assert statuses(bridges.migrate(spec)) == {"exported": 2 * count}
    again = bridges.migrate(spec)
    assert (statuses(again), known(again)) == ({"unchanged": 2 * count}, 2 * count)
    shutil.move(later, second)
    grown = bridges.migrate(spec)
    assert statuses(grown) == {"unchanged": 2 * count - 2, "appended": 2}
    assert known(grown) == 2 * count - 2


@pytest.mark.slow
def test_runs_are_shared_among_the_workers_of_dask(tmp_path: Path) -> None:
    folder = folder_of(RELEASES[-1], tmp_path)
    with dask_cluster(2) as (address, _):
        spec = migration(folder, tmp_path, kind="dask", scheduler=address)
        assert statuses(bridges.migrate(spec)) == {"exported": 2 * FINISHED}
        again = bridges.migrate(spec)
    assert (statuses(again), known(again)) == ({"unchanged": 2 * FINISHED}, 2 * FINISHED)
