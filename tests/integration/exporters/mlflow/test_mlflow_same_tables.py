"""Stores that mlflow's own clients wrote, copied into a new store: the tables are the same.

Both sides are read by plain SQL. Ids of datasets and inputs are made up by every writer, so their
rows are compared by name.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.sources.mlflow.database import DatabaseStore
from bridges.sources.mlflow.runs import run_of
from bridges.sources.mlflow.source import MlflowSource
from bridges.sources.mlflow.sqlite import SqliteDatabase
from bridges.sources.options import ReadOptions
from bridges.stream.model import Run
from tests.mlflow_stores import DATABASE_RELEASES, unpack_database, unpack_store
from tests.servers import PostgreSQL

RUNS = (  # mlflow 1 leaves the column of the name empty, and runs of deleted experiments active
    "select run_uuid, coalesce(nullif(runs.name, ''), (select value from tags where tags.run_uuid ="
    " runs.run_uuid and key = 'mlflow.runName'), ''), source_type, source_name, entry_point_name,"
    " user_id, status, start_time, end_time, source_version, artifact_uri, case when"
    " experiments.lifecycle_stage = 'deleted' then 'deleted' else runs.lifecycle_stage end,"
    " experiments.name from runs join experiments on experiments.experiment_id = runs.experiment_id"
)
OF_RUNS = "experiment_id in (select experiment_id from runs)"
QUERIES = {
    "experiments": f"select name, lifecycle_stage from experiments where {OF_RUNS}",
    "runs": RUNS,
    "params": "select key, value, run_uuid from params",
    "tags": "select key, value, run_uuid from tags where key not like 'bridges.%'",
    "metrics": "select key, value, timestamp, step, run_uuid from metrics",
}
NEWER = {
    "experiment_tags": f"select key, value from experiment_tags where {OF_RUNS}"
    " and key not like 'bridges.%'",
    "is_nan": "select key, value, timestamp, step, is_nan, run_uuid from metrics",
    "latest_metrics": "select key, value, timestamp, step, is_nan, run_uuid from latest_metrics",
    "deleted": "select run_uuid, deleted_time from runs",
    "times": f"select creation_time, last_update_time from experiments where {OF_RUNS}",
    "datasets": "select name, digest, dataset_source_type, dataset_source, dataset_schema,"
    " dataset_profile from datasets",
    "inputs": "select datasets.name, digest, destination_type, destination_id, input_tags.name,"
    " value from inputs join datasets on dataset_uuid = source_id"
    " left join input_tags on input_tags.input_uuid = inputs.input_uuid",
    "links": "select source_type, source_id, destination_type, destination_id, step from inputs"
    " where source_type <> 'DATASET'",
    "logged_models": "select model_id, name, artifact_location, creation_timestamp_ms,"
    " last_updated_timestamp_ms, status, lifecycle_stage, model_type, source_run_id,"
    " status_message from logged_models",
    "logged_model_params": "select model_id, param_key, param_value from logged_model_params",
    "logged_model_tags": "select model_id, tag_key, tag_value from logged_model_tags",
    "logged_model_metrics": "select model_id, metric_name, metric_timestamp_ms, metric_step,"
    " metric_value, run_id, dataset_name, dataset_digest from logged_model_metrics",
}
Tables = dict[str, list[tuple[Any, ...]]]


def tables(database: Any) -> Tables:
    """The rows of each query, sorted; those of a newer schema only if it is."""
    found = {name: _rows(database, query) for name, query in QUERIES.items()}
    for name, query in NEWER.items():
        with suppress(sqlite3.OperationalError):
            found[name] = _rows(database, query)
    return found


def _rows(database: Any, query: str) -> list[tuple[Any, ...]]:
    rows = database.execute(query).fetchall()
    return sorted(
        (tuple(int(v) if isinstance(v, bool) else v for v in row) for row in rows), key=repr
    )


def runs(path: Path) -> Iterator[Run]:
    """All runs of a database."""
    store = DatabaseStore(SqliteDatabase(str(path)))
    for experiment in store.experiments():
        for head in store.heads(experiment):
            yield run_of(*store.read(head), str(path))
    assert not store.errors


def copy(path: Path, uri: str) -> list[RunReport]:
    exporter = MlflowExporter(MlflowOptions(uri))
    return [export_run(run, exporter, ExportOptions()) for run in runs(path)]


def check(source: Path, uri: str, database: Any, cut: int | None = None) -> None:
    """Copy a database twice, and compare all rows; tags are `cut` to this width."""
    reports = copy(source, uri)
    assert reports
    assert {(report.status, report.verified) for report in reports} == {("exported", True)}
    losses = [found for report in reports for found in report.findings if found.fails]
    with sqlite3.connect(source) as original:
        expected = tables(original)
    long = [row for row in expected["tags"] if len(row[1]) > (cut or len(row[1]))]
    assert [(loss.code, loss.where) for loss in losses] == [
        ("value-cut", f"tag {key!r}") for key, *_ in long
    ]
    expected["tags"] = [(key, value[:cut], run_id) for key, value, run_id in expected["tags"]]
    found = tables(database)
    for name, rows in expected.items():
        assert found[name] == rows, name
    again = copy(source, uri)
    assert {(report.status, report.verified) for report in again} == {("unchanged", True)}
    assert tables(database) == found


@pytest.mark.parametrize("release", DATABASE_RELEASES)
def test_into_sqlite(release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = unpack_database(release, tmp_path / "source")
    before = path.read_bytes()
    sqlite_uri = f"sqlite:///{tmp_path}/target.db"
    with sqlite3.connect(tmp_path / "target.db") as database:
        check(path, sqlite_uri, database)
        ids = f"select experiment_id, name from experiments where {OF_RUNS}"
        with sqlite3.connect(path) as original:
            assert _rows(database, ids) == _rows(original, ids)
    assert path.read_bytes() == before


@pytest.mark.parametrize("release", DATABASE_RELEASES)
def test_into_postgresql(release: str, tmp_path: Path, postgres: PostgreSQL) -> None:
    path = unpack_database(release, tmp_path)
    uri = postgres.create_database(uuid.uuid4().hex)
    with psycopg.connect(uri, autocommit=True) as database:
        check(path, uri, database, cut=8000)


MADE_AT = re.compile(r"/tmp/mlflow-store-\w+")


def read_files(root: Path) -> Iterator[Run]:
    """All runs of a file store."""
    yield from MlflowSource().read(str(root), ReadOptions(deleted=True))


@pytest.mark.parametrize("release", ["2.9.2", "2.22.0", "3.17.2"])
def test_a_file_store_like_migrate_filestore(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official tool is the judge; it turns CRLF in params and tags into LF, and leaves dead
    locations of artifacts to deleted experiments.
    """
    monkeypatch.chdir(tmp_path)
    root = unpack_store(release, tmp_path)
    for meta in root.rglob("meta.yaml"):  # as if the store had been made here
        meta.write_text(MADE_AT.sub(str(tmp_path), meta.read_text()))
    exporter = MlflowExporter(MlflowOptions(f"sqlite:///{tmp_path}/ours.db"))
    reports = [export_run(run, exporter, ExportOptions()) for run in read_files(root)]
    assert {(report.status, report.verified) for report in reports} == {("exported", True)}
    assert not [found for report in reports for found in report.findings if found.fails]
    target = ["--target", f"sqlite:///{tmp_path}/theirs.db"]
    command = [sys.executable, "-m", "mlflow", "migrate-filestore", "--source", str(tmp_path)]
    done = subprocess.run([*command, *target], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with (
        sqlite3.connect(tmp_path / "theirs.db") as theirs,
        sqlite3.connect(tmp_path / "ours.db") as ours,
    ):
        expected, found = tables(theirs), tables(ours)
    for name, rows in expected.items():
        assert [_as_migrated(row) for row in found[name]] == rows, name


def _as_migrated(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        v.replace("\r\n", "\n").replace("/.trash/", "/") if isinstance(v, str) else v for v in row
    )
