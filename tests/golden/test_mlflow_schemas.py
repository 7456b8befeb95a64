"""Every schema that may be written directly, against what the client of that release wrote.

`tests/data/mlflow_schemas` holds the tables of each release with one run in them, written by its
own client (`make_mlflow_schemas.py`). The same run, written by us into the same empty tables, must
give the same rows.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.exporters.mlflow import direct as mlflow_direct
from bridges.exporters.mlflow.database import put_pairs
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.latest_points import LatestPoints
from bridges.exporters.mlflow.limits import Limits, limits_of
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.mlflow.rows import MetricColumn, stored
from bridges.exporters.mlflow.schema import SCHEMAS
from bridges.exporters.mlflow.sqlite import SqliteDatabase
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.testing.exporters import ROWS
from tests.golden import mlflow_run as golden
from tests.support import DATA, make_run

FOLDER = DATA / "mlflow_schemas"
FILES = sorted(FOLDER.glob("*.sql"), key=lambda file: [int(n) for n in file.stem.split(".")])
RUN_TABLES = ("metrics", "latest_metrics", "params", "tags", "runs")
BATCHES = (golden.METRICS, golden.COLON_METRICS, golden.LATER_METRICS)


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def script(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def path(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of that release without its run."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.executescript(script.read_text())
        for table in RUN_TABLES:
            database.execute(f"delete from {table}")
        database.commit()
    return tmp_path / "mlflow.db"


def rows(database: sqlite3.Connection, table: str) -> list[str]:
    names = [column[1] for column in database.execute(f"pragma table_info({table})")]
    return sorted(map(repr, database.execute(f"select {', '.join(sorted(names))} from {table}")))


def columns(limits: Limits) -> list[MetricColumn]:
    """The run's points by key, in the order of the log, without what the client drops."""
    points: dict[str, dict[Any, None]] = {}
    for key, value, time, step in (point for batch in BATCHES for point in batch):
        if limits.takes_key(key):
            one = float(np.where(np.isnan(value), 0.0, stored(np.array([value]))).item())
            points.setdefault(key, {})[(one, bool(np.isnan(value)), time, step)] = None
    made = []
    for key, found in points.items():
        values, nans, times, steps = zip(*found, strict=True)
        made.append(
            MetricColumn(
                key,
                np.array(values, np.float64),
                np.array(nans, np.bool_),
                np.array(times, np.int64),
                np.array(steps, np.int64),
            )
        )
    return made


def test_the_rows_are_those_of_the_client(script: Path, path: Path) -> None:
    database = SqliteDatabase(str(path))
    database.check()
    assert database.release == script.stem
    with database.transaction(write=True) as session:
        session.execute(
            "insert into runs (run_uuid, name, source_type, source_name, entry_point_name, user_id,"
            " status, start_time, end_time, source_version, lifecycle_stage, artifact_uri,"
            " experiment_id) values (?, ?, 'UNKNOWN', '', '', ?, ?, ?, ?, '', 'active', ?, 1)",
            (
                golden.RUN_ID,
                golden.RUN_NAME,
                golden.USER,
                golden.STATUS,
                golden.START,
                golden.END,
                f"{golden.ARTIFACTS}/{golden.RUN_ID}/artifacts",
            ),
        )
        latest = LatestPoints()
        session.insert_points(golden.RUN_ID, map(latest.seen, columns(limits_of(script.stem))))
        latest.put(session, golden.RUN_ID)
        put_pairs(session, "params", golden.RUN_ID, golden.PARAMS)
        tags = {**golden.TAGS, **golden.BATCH_TAGS, "mlflow.runName": golden.RUN_NAME}
        put_pairs(session, "tags", golden.RUN_ID, tags)
    with closing(sqlite3.connect(":memory:")) as theirs, closing(sqlite3.connect(path)) as ours:
        theirs.executescript(script.read_text())
        for table in (*RUN_TABLES, "experiments", "experiment_tags"):
            assert rows(ours, table) == rows(theirs, table), table


def test_a_run_goes_there_directly(script: Path, path: Path) -> None:
    run = make_run(ROWS, params={"lr": 1e-5}, tags={"long": "x" * 6000})
    for status in ("exported", "unchanged"):
        report = export_run(
            run, MlflowExporter(MlflowOptions(f"sqlite:///{path}")), ExportOptions()
        )
        assert (report.status, report.verified) == (status, True)
        codes = {finding.code for finding in report.findings}
        assert "written-by-client" not in codes
        assert ("tag-refused" in codes) == (limits_of(script.stem).tag == 5000)


def test_each_schema_has_a_file() -> None:
    found = {}
    for file in FILES:
        revision = re.search(r"alembic revision (\w+)", file.read_text())
        assert revision is not None
        found[revision[1]] = file.stem
    assert found == SCHEMAS


def test_limits_follow_the_release() -> None:
    assert limits_of("2.14.3") == Limits(tag=5000, colon=False, has_models=False)
    assert limits_of("2.16.0rc1") == Limits(tag=5000, has_models=False)
    assert limits_of("3.17.2") == limits_of("10.0") == Limits()
    assert not Limits(colon=False).takes_key("a:b")
    assert Limits().takes_key("a:b")


def test_a_new_database_has_the_limits_of_its_maker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_direct, "installed_release", lambda: "2.14.3")
    run = make_run([{"a:b": 1.0, "step": 1}], tags={"long": "x" * 6000})
    report = export_run(
        run, MlflowExporter(MlflowOptions(f"sqlite:///{tmp_path}/new.db")), ExportOptions()
    )
    assert {"key-renamed", "tag-refused"} <= {finding.code for finding in report.findings}
