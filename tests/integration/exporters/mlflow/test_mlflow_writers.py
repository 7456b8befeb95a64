"""Direct and client writers of one MLflow store at the same time: one run, never two."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions, MlflowWriter
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.stream.model import Run
from tests import mlflow_records
from tests.integration.exporters.mlflow.support import judge, long_rows
from tests.servers import PostgreSQL, mlflow_server
from tests.support import make_run, state

ROWS = long_rows(20)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store that both writers can write; its URI."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/{uuid.uuid4().hex}.db"
    postgres: PostgreSQL = request.getfixturevalue("postgres")
    return postgres.create_database(uuid.uuid4().hex)


def other_run(**fields: Any) -> Run:
    return make_run([{**row, "loss": row["loss"] + 1} for row in ROWS], **fields)


def points_of_each(uri: str) -> list[list[int]]:
    """The number of points of each key of each run."""
    return [[len(points) for points in run.points.values()] for run in judge(uri, "bridges")]


def test_a_run_that_a_client_makes_later_is_found_by_the_direct_writer(store: str) -> None:
    direct = MlflowExporter(MlflowOptions(store, mlflow_writer="direct"))
    assert export_run(make_run(ROWS), direct, ExportOptions()).status == "exported"
    client = MlflowExporter(MlflowOptions(store, mlflow_writer="client"))
    made = export_run(other_run(), client, ExportOptions())
    found = export_run(other_run(), direct, ExportOptions())
    assert (found.status, found.location) == ("unchanged", made.location)
    assert len(judge(store, "bridges")) == 2


def between(exporter: MlflowExporter, step: str, act: Callable[[], object]) -> None:
    """Let another writer act when the exporter has done its first `step`."""
    writer, waiting = exporter._writer, [act]
    original = getattr(writer, step)

    def stepped(*args: Any) -> Any:
        done = original(*args)
        if waiting:
            waiting.pop()()
        return done

    setattr(writer, step, stepped)


@pytest.mark.parametrize(
    ("slow", "step", "fast"),
    [
        ("direct", "find", "client"),
        ("client", "find", "direct"),
        ("client", "_create_run", "direct"),
        ("client", "_create_run", "client"),
        ("client", "find", "client"),
        ("direct", "find", "direct"),
    ],
)
def test_a_writer_that_is_slower_finds_the_run_of_the_other(
    store: str, slow: MlflowWriter, step: str, fast: MlflowWriter
) -> None:
    exporter = MlflowExporter(MlflowOptions(store, mlflow_writer=slow))
    assert export_run(make_run(ROWS), exporter, ExportOptions()).status == "exported"
    trial = other_run(name="t", trial="0", group="search")
    other = MlflowExporter(MlflowOptions(store, mlflow_writer=fast))
    made = []
    between(exporter, step, lambda: made.append(export_run(trial, other, ExportOptions())))
    found = export_run(trial, exporter, ExportOptions())
    assert (found.verified, found.location) == (True, made[0].location)
    assert export_run(trial, exporter, ExportOptions()).status == "unchanged"
    assert sorted(points_of_each(store)) == [[], [20, 20], [20, 20]]  # the search has no points


def test_a_client_makes_its_run_while_the_direct_writer_writes(postgres: PostgreSQL) -> None:
    store = postgres.create_database(uuid.uuid4().hex)
    exporter = MlflowExporter(MlflowOptions(store, mlflow_writer="direct"))
    export_run(make_run(ROWS), exporter, ExportOptions())
    other = MlflowExporter(MlflowOptions(store, mlflow_writer="client"))
    between(exporter, "_insert_run", lambda: export_run(other_run(), other, ExportOptions()))
    assert export_run(other_run(), exporter, ExportOptions()).status == "unchanged"
    assert points_of_each(store) == [[20, 20], [20, 20]]


def _training(number: int) -> Run:
    return make_run([{**row, "loss": row["loss"] + number} for row in ROWS])


def _copy(number: int) -> Run:
    """A run of another MLflow store, with as many points."""
    curve = [(step, step, 1.0 + number) for step in range(20)]
    return mlflow_records.run(
        mlflow_records.record(mlflow_records.head(1 + number)), {"loss": curve, "acc": curve}
    )


MAKE = {"training": _training, "copy": _copy}


def _export(uri: str, writer: MlflowWriter, kind: str, barrier: Any) -> str | None:
    exporter = MlflowExporter(MlflowOptions(uri, "e", writer))
    for number in range(4):
        barrier.wait()
        report = export_run(MAKE[kind](number), exporter, ExportOptions())
        assert report.verified, report.findings
    return report.location


@pytest.mark.slow
@pytest.mark.parametrize("writers", [("direct", "client"), ("client", "client"), ("direct",) * 2])
@pytest.mark.parametrize("kind", MAKE)
def test_two_processes_at_the_same_moment_make_one_run(
    tmp_path: Path, writers: Any, kind: str
) -> None:
    database = f"sqlite:///{tmp_path}/m.db"
    with mlflow_server(database, workers=2) as url, multiprocessing.Manager() as manager:
        export_run(
            make_run(ROWS), MlflowExporter(MlflowOptions(database, "other")), ExportOptions()
        )
        barrier = manager.Barrier(2)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            uris = [database if writer == "direct" else url for writer in writers]
            waiting = [
                pool.submit(_export, uri, writer, kind, barrier)
                for uri, writer in zip(uris, writers, strict=True)
            ]
            for each in waiting:
                each.result()
        assert [[len(p) for p in run.points.values()] for run in judge(url, "e")] == [[20, 20]] * 4


@pytest.mark.slow
def test_a_migration_to_one_place_by_two_writers_makes_each_run_once(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/m.db"
    for number in range(4):
        folder = tmp_path / "runs" / str(number)
        folder.mkdir(parents=True)
        rows = [{**row, "loss": row["loss"] + number} for row in ROWS]
        (folder / "trainer_state.json").write_bytes(state(rows))
    with mlflow_server(database, workers=2) as url:
        targets = [{"to": "mlflow", "tracking_uri": uri} for uri in (database, url)]
        config = {"sources": [f"{tmp_path}/runs"], "targets": targets}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        command = ["migrate", f"{tmp_path}/config.yaml", "--workers", "2"]
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-m", "bridges", *command], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert points_of_each(url) == [[20, 20]] * 4
