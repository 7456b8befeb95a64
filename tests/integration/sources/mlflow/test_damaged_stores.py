"""Exports of damaged and of real file stores into SQLite, read there by SQL."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridges import BatchReport, export
from tests.mlflow_defects import DEFECTS, POINTS, RUN, SOUND, Defect, StoreFolder
from tests.mlflow_stores import RELEASES, REPEATS, unpack_store
from tests.unit.sources.mlflow.test_real_stores import (
    IN_DATABASES,
    INDEX,
    STORES,
    file_store_of,
    needs_stores,
    rows,
)


def export_to(path: Path, store: Path) -> BatchReport:
    return export(store, to="mlflow", tracking_uri=f"sqlite:///{path}", deleted=True)


def query(path: Path, statement: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(statement, values).fetchall()


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_the_other_runs_of_a_damaged_store_arrive(defect: Defect, tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path / "mlruns")
    folder.make()
    defect.make(folder)
    database = tmp_path / "mlflow.db"
    report = export_to(database, folder.root)
    for run_id in SOUND:
        assert query(
            database,
            "select timestamp, value, step from metrics where run_uuid = ? order by step",
            run_id,
        ) == [*POINTS]
        assert query(database, "select key, value from params where run_uuid = ?", run_id) == [
            ("lr", "0.1")
        ]
    named = [finding.code for run in report.runs for finding in run.findings]
    assert {code for code, _ in defect.findings} <= {*named}
    assert named.count("source") == (defect.error is not None)
    is_there = bool(query(database, "select 1 from runs where run_uuid = ?", defect.run_id))
    assert is_there == (defect.points is not None)
    assert RUN not in SOUND


@needs_stores
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_real_stores_arrive(row: dict[str, str], tmp_path: Path) -> None:
    with tarfile.open(STORES / f"{row['name']}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    database = tmp_path / "target.db"
    report = export_to(database, file_store_of(row, tmp_path))
    runs, points = IN_DATABASES.get(row["name"], (0, 0))
    ((found_runs,),) = query(database, "select count(*) from runs")
    ((found_points,),) = query(database, "select count(*) from metrics")
    assert (found_runs + runs, found_points + points) == (int(row["runs"]), int(row["points"]))
    assert {run.status for run in report.runs} == {"exported"}
    assert all(run.verified for run in report.runs)


@needs_stores
def test_all_of_each_real_store_arrives(tmp_path: Path) -> None:
    """Its databases, too. mlflow's own migration fails for one of them."""
    with INDEX.open(newline="") as file:
        index = [*csv.DictReader(file, delimiter="\t")]
    assert len(index) == 7
    for row in index:
        source = tmp_path / row["name"]
        with tarfile.open(STORES / f"{row['name']}.tar.gz") as archive:
            archive.extractall(source, filter="data")
        database = tmp_path / f"{row['name']}.db"
        report = export_to(database, source)
        assert report.exit_code == 0, row["name"]
        counts = [query(database, f"select count(*) from {table}") for table in ("runs", "metrics")]
        assert counts == [[(int(row["runs"]),)], [(int(row["points"]),)]], row["name"]


def numbers(report: BatchReport) -> list[tuple[str, int, int]]:
    return sorted((run.source, run.rows, run.new_points) for run in report.runs)


def check_numbers(location: Path, target: Path) -> None:
    """`inspect` shows every run, and a dry run has the numbers of the export."""
    into: dict[str, Any] = {"to": "mlflow", "tracking_uri": f"sqlite:///{target}"}
    planned = export(location, **into, dry_run=True)
    assert not target.exists()
    done = export(location, **into)
    assert numbers(planned) == numbers(done)
    assert {run.status for run in done.runs} == {"exported"}
    command = [sys.executable, "-m", "bridges", "inspect", str(location), "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(shown.stdout)["runs"]) == len(done.runs)


@needs_stores
@pytest.mark.parametrize("row", rows(), ids=lambda row: row["name"])
def test_numbers_before_the_export_of_a_real_store(row: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    with tarfile.open(STORES / f"{row['name']}.tar.gz") as archive:
        archive.extractall(source, filter="data")
    check_numbers(source, tmp_path / "target.db")


@pytest.mark.parametrize("release", [*RELEASES, REPEATS])
def test_numbers_before_the_export_of_a_generated_store(release: str, tmp_path: Path) -> None:
    check_numbers(unpack_store(release, tmp_path / "source"), tmp_path / "target.db")
