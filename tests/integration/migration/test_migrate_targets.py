"""Dask workers write runs into Trackio, Parquet and CSV as local workers do."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

import bridges
from bridges.migration.config.config import MigrationConfig
from tests.dask_cluster import dask_cluster
from tests.integration.migration.test_migrate import counts, rows_of
from tests.support import state

RUNS = 12
TARGETS = ("trackio", "parquet", "csv")
pytestmark = pytest.mark.slow


def config(sources: Path, place: Path, **engine: Any) -> MigrationConfig:
    targets = [
        {"to": "trackio", "trackio_dir": str(place / "trackio"), "project": "p"},
        {"to": "parquet", "out": str(place / "parquet"), "wide": True},
        {"to": "csv", "out": str(place / "csv")},
    ]
    document = {"sources": [str(sources)], "targets": targets, "engine": engine}
    return MigrationConfig.model_validate(document)


def content(place: Path) -> dict[str, Counter[Any]]:
    """The rows of all runs in each target."""
    with closing(sqlite3.connect(place / "trackio" / "p.db")) as database:
        query = "SELECT run_id, run_name, step, timestamp, metrics, log_id FROM metrics"
        found = {"trackio": Counter(database.execute(query).fetchall())}
    for to in TARGETS[1:]:
        points = duckdb.sql(f"SELECT * FROM '{place}/{to}/metrics/*.{to}'").fetchall()
        found[to] = Counter(map(repr, points))
    return found


def test_workers_of_dask_write_the_same_runs(tmp_path: Path) -> None:
    sources = tmp_path / "out"
    for number in range(RUNS):
        rows = rows_of(number)
        path = sources / f"run{number}" / f"checkpoint-{len(rows)}" / "trainer_state.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(state(rows, global_step=len(rows)))
    with dask_cluster(2) as (address, _):
        shared = config(sources, tmp_path / "dask", kind="dask", scheduler=address)
        for status in ("exported", "unchanged"):
            report = bridges.migrate(shared)
            assert report.exit_code == 0
            assert all(run.verified is not False for run in report.runs)
            assert counts(report) == {to: {status: RUNS} for to in TARGETS}
    for run in report.runs:
        assert "known-by-its-files" in [finding.code for finding in run.findings]
    bridges.migrate(config(sources, tmp_path / "local", workers=1))
    assert content(tmp_path / "dask") == content(tmp_path / "local")
