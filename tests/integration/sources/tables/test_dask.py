"""Tables, and tables folded with event files, moved by the workers of a Dask cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

import bridges
from bridges.migration.config.config import MigrationConfig
from bridges.report import BatchReport
from tests.dask_cluster import dask_cluster
from tests.event_files import START
from tests.integration.sources.tables.test_folded_growth import events, table
from tests.unit.sources.tables.tables import LIGHTNING, put

pytestmark = pytest.mark.slow


def statuses(report: BatchReport) -> dict[str, str]:
    """The status of each run by name; all are verified."""
    assert all(run.verified or run.status == "unchanged" for run in report.runs), report
    return {run.run: run.status for run in report.runs}


def test_folded_runs_and_formats_of_the_config(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(3):
        events(tree / f"PPO_{number}", 3 - number, start=START + 99 * number)
        table(tree / f"PPO_{number}", 3 - number)
    put(tree / "lightning_logs/version_0/metrics.csv", LIGHTNING)
    put(tree / "own/a.dat", "n,loss\n3,0.5\n4,0.25\n")
    with dask_cluster(2, {}) as (scheduler, _):
        config = MigrationConfig.model_validate(
            {
                "tables": {"own": {"files": "*.dat", "step": "n"}},
                "sources": [str(tree)],
                "targets": [{"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/m.db"}],
                "engine": {"kind": "dask", "scheduler": scheduler},
            }
        )
        first = bridges.migrate(config)
        again = bridges.migrate(config)
        events(tree / "PPO_1", 4, start=START + 99)  # the event file is ahead of its table
        table(tree / "PPO_2", 2)  # and here the table
        ahead = bridges.migrate(config)
        table(tree / "PPO_1", 4)
        events(tree / "PPO_2", 2, start=START + 198)
        last = bridges.migrate(config)
    names = {"PPO_0", "PPO_1", "PPO_2", "lightning_logs/version_0", "own/a.dat"}
    assert statuses(first) == dict.fromkeys(names, "exported")
    assert statuses(again) == dict.fromkeys(names, "unchanged")
    grown = {"PPO_1": "appended", "PPO_2": "appended"}
    assert statuses(ahead) == dict.fromkeys(names, "unchanged") | grown
    found = statuses(last)
    assert found["PPO_1"] == "appended"
    assert {found[name] for name in names - {"PPO_1", "PPO_2"}} == {"unchanged"}
