"""Migrations whose target goes away: real servers that are killed in the middle, and started again
or not.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any

import psycopg
import pytest

from bridges.migration.config.config import MigrationConfig
from bridges.migration.migrate import Migration
from bridges.report import BatchReport, RunReport
from tests.bounds import HANGS, until
from tests.integration.exporters.mlflow.support import export
from tests.integration.migration.test_migrate import counts, make_tree
from tests.proxy import FaultyProxy, Refuse
from tests.servers import (
    PostgreSQL,
    folder_of,
    free_port,
    make_cluster,
    mlflow_server,
    owner_of_postgresql,
    programs_of_postgresql,
    serve_postgresql,
)
from tests.support import make_run

RUNS = 40
PATIENCE = int(20 * HANGS)  # a tenth of it for a server that never answered
pytestmark = pytest.mark.slow


class Server:
    """A server that can be killed and started again where it was."""

    def __init__(self, start: Callable[[], AbstractContextManager[Any]]) -> None:
        self._start, self._stack = start, ExitStack()

    def start(self) -> None:
        self._stack.enter_context(self._start())

    def kill(self) -> None:
        self._stack.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


class Outage:
    """Kills a server once a migration has told of some of its runs, and starts it again when the
    other target has all: so that does not wait.
    """

    def __init__(self, server: Server, *, comes_back: bool = True) -> None:
        self._server, self._comes_back = server, comes_back
        self._thread = threading.Thread(target=self._go)
        self.reports: list[RunReport] = []
        self.waits: list[tuple[str, str, float]] = []
        self.told = 0  # of the target, when the server was back
        self.back_at = self.ended_at = 0.0

    def migrate(self, config: MigrationConfig) -> BatchReport:
        Migration(
            config,
            on_report=self._report,
            on_wait=lambda *each: self.waits.append(each),
        ).run()
        self.ended_at = time.monotonic()
        self._thread.join()
        return BatchReport(tuple(self.reports))

    def of(self, target: str) -> int:
        return sum(report.target == target for report in self.reports)

    def _report(self, report: RunReport) -> None:
        self.reports.append(report)
        if self.of("mlflow") == RUNS // 8 and not self._thread.ident:
            self._thread.start()

    def _go(self) -> None:
        self._server.kill()
        deadline = time.monotonic() + HANGS
        while self.of("tensorboard") < RUNS and time.monotonic() < deadline:
            time.sleep(0.05)
        self.told = self.of("mlflow")
        if self._comes_back:
            self._server.start()
            self.back_at = time.monotonic()


def config(tmp_path: Path, uri: str, **engine: Any) -> MigrationConfig:
    """Runs into TensorBoard and an MLflow store, into an experiment of the test's own."""
    make_tree(tmp_path / "tree", RUNS, 0)
    return MigrationConfig.model_validate(
        {
            "sources": [str(tmp_path / "tree")],
            "targets": [
                {"to": "tensorboard", "logdir": str(tmp_path / "tb")},
                {"to": "mlflow", "tracking_uri": uri, "experiment": tmp_path.name},
            ],
            "engine": {"workers": 2, **engine},
        }
    )


def migrated(config: MigrationConfig) -> dict[str, dict[str, int]]:
    """How many runs of each status there are in an undisturbed migration, by target."""
    reports: list[RunReport] = []
    Migration(config, on_report=reports.append).run()
    return counts(BatchReport(tuple(reports)))


def check(execute: Callable[[str], list[Any]], experiment: str) -> None:
    """Every run is there once, with every point once."""
    of = f"JOIN experiments e USING (experiment_id) WHERE e.name = '{experiment}'"
    names = execute(f"SELECT r.name FROM runs r {of} AND r.lifecycle_stage = 'active'")
    assert Counter(names) == Counter((f"run{number}",) for number in range(RUNS))
    points = execute(
        "SELECT m.run_uuid, m.key, m.step, m.timestamp FROM metrics m"
        f" JOIN runs r ON r.run_uuid = m.run_uuid {of} AND r.lifecycle_stage = 'active'"
    )
    assert set(Counter(points).values()) == {1}


def in_sqlite(path: Path) -> Callable[[str], list[Any]]:
    def execute(statement: str) -> list[Any]:
        with closing(sqlite3.connect(path)) as database:
            return database.execute(statement).fetchall()

    return execute


@dataclass(frozen=True)
class Mlflow:
    """A server of mlflow over SQLite."""

    url: str
    server: Server
    execute: Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    port, path = free_port(), tmp_path_factory.mktemp("mlflow") / "server.db"

    def start() -> AbstractContextManager[str]:
        return mlflow_server(f"sqlite:///{path}", workers=1, port=port, stop=SIGKILL)

    with Server(start) as server:
        yield Mlflow(f"http://127.0.0.1:{port}", server, in_sqlite(path))


def assert_all_are_there(report: BatchReport) -> None:
    """Each run was told of once. One whose last answer was lost is there when it is tried again."""
    assert report.exit_code == 0, counts(report)
    found = counts(report)
    assert found["tensorboard"] == {"exported": RUNS}
    assert sum(found["mlflow"].values()) == RUNS
    assert found["mlflow"]["exported"] >= RUNS - 4
    assert all(run.verified for run in report.runs)


def test_a_server_that_comes_back_is_waited_for(tmp_path: Path, mlflow: Mlflow) -> None:
    chosen, outage = config(tmp_path, mlflow.url), Outage(mlflow.server)
    assert_all_are_there(outage.migrate(chosen))
    assert outage.told < RUNS  # and TensorBoard had all then
    (label, why, seconds), *_ = outage.waits
    assert (label, seconds) == ("mlflow", 300)
    assert f"{mlflow.url} does not answer" in why
    assert outage.ended_at - outage.back_at < HANGS
    check(mlflow.execute, tmp_path.name)
    assert migrated(chosen) == {to: {"unchanged": RUNS} for to in ("tensorboard", "mlflow")}


def test_a_server_that_stays_away_is_given_up_and_what_is_missing_told(
    tmp_path: Path, mlflow: Mlflow
) -> None:
    chosen = config(tmp_path, mlflow.url, patience=3)
    outage, began = Outage(mlflow.server, comes_back=False), time.monotonic()
    report = outage.migrate(chosen)
    assert time.monotonic() - began < HANGS
    assert report.exit_code == 1
    found = counts(report)
    assert found["tensorboard"] == {"exported": RUNS}
    assert sum(found["mlflow"].values()) == RUNS
    lost = [run for run in report.runs if run.failed]
    assert 0 < len(lost) < RUNS
    done = {run.run for run in report.runs if run.target == "mlflow" and not run.failed}
    named = {run.source.split("/")[-3] for run in lost}
    assert done | named == {f"run{number}" for number in range(RUNS)}
    assert not done & named
    assert {run.findings[-1].code for run in lost} == {"no-answer"}
    said = (
        "did not answer for 3 s",
        mlflow.url,
        "Rerun the same command to export the missing runs",
    )
    for run in lost:
        assert all(text in run.findings[-1].message for text in said)
    mlflow.server.start()
    again = migrated(chosen)
    assert again["tensorboard"] == {"unchanged": RUNS}
    assert sum(again["mlflow"].values()) == RUNS
    # one in each worker's hand may have been there already
    assert len(lost) - 2 <= RUNS - again["mlflow"]["unchanged"] <= len(lost)
    check(mlflow.execute, tmp_path.name)


def test_a_server_that_answers_503_for_a_while(tmp_path: Path, mlflow: Mlflow) -> None:
    reports: list[RunReport] = []
    waits: list[tuple[str, str, float]] = []

    def on_report(report: RunReport) -> None:
        reports.append(report)
        told = Counter(report.target for report in reports)
        if told["mlflow"] == RUNS // 8:
            proxy.script = lambda method, path, n: Refuse(503)
        if told["tensorboard"] == RUNS:
            proxy.script = None

    with FaultyProxy(mlflow.url) as proxy:
        chosen = config(tmp_path, proxy.url)
        Migration(chosen, on_report=on_report, on_wait=lambda *each: waits.append(each)).run()
        assert_all_are_there(BatchReport(tuple(reports)))
        assert "answers 503" in waits[0][1]
    check(mlflow.execute, tmp_path.name)


def test_a_database_that_is_stopped_and_started_again(tmp_path: Path) -> None:
    port, owner = free_port(), owner_of_postgresql()
    with folder_of(owner, "data") as kept:
        make_cluster(programs_of_postgresql(), kept / "data", owner)

        @contextmanager
        def start() -> Iterator[PostgreSQL]:
            with ExitStack() as stack:
                folder = stack.enter_context(folder_of(owner, "pg"))
                yield serve_postgresql(folder, kept / "data", port, stack)

        with Server(start) as server:
            uri = PostgreSQL(port, kept).create_database("mlflow")
            chosen, outage = config(tmp_path, uri), Outage(server)
            assert_all_are_there(outage.migrate(chosen))
            assert outage.told < RUNS
            assert outage.waits

            def execute(statement: str) -> list[Any]:
                with psycopg.connect(uri) as connection:
                    return connection.execute(statement).fetchall()

            check(execute, tmp_path.name)
            assert migrated(chosen)["mlflow"] == {"unchanged": RUNS}


def test_what_a_database_says_of_a_connection_is_told_apart(
    postgres: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = postgres.create_database("apart")
    postgres.create_login("berta", "right", "apart")
    elsewhere = uri.replace(f":{postgres.port}/", f":{free_port()}/")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = make_run([{"loss": 1.0, "step": 1}])
    assert export(run, elsewhere).transient
    assert export(run, uri.replace("127.0.0.1", "no-such-host.invalid")).transient
    assert not export(run, postgres.uri("apart", "berta", "wrong")).transient
    assert not export(run, postgres.uri("no such database")).transient
    monkeypatch.setenv("MLFLOW_WORKSPACE", "w")  # so that mlflow's own client is used
    report = export(run, f"http://127.0.0.1:{free_port()}")
    assert report.transient, report


def typed(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """`bridge migrate` into TensorBoard and a server that is not there."""
    make_tree(tmp_path / "tree", 5, 0)
    file = tmp_path / "migration.yaml"
    file.write_text(
        "sources: [tree]\nengine: {workers: 2}\ntargets: [{to: tensorboard, logdir: tb}, "
        f"{{to: mlflow, tracking_uri: 'http://127.0.0.1:{free_port()}'}}]\n"
    )
    command = [sys.executable, "-m", "bridges", "migrate", str(file), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )


def test_a_server_that_is_not_there_is_told_at_once_and_soon_given_up(tmp_path: Path) -> None:
    with typed(tmp_path, "--patience", "10", "--json") as process:
        shown, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if "does not answer" in line]
    assert line.startswith("mlflow does not answer; waiting up to 1 s: http://127.0.0.1:")
    totals = json.loads(shown)["totals"]
    assert (totals["exported"], totals["failed"]) == (5, 5)


def test_interrupted_while_it_waits_it_ends_at_once(tmp_path: Path) -> None:
    with typed(tmp_path, "--patience", str(PATIENCE)) as process:
        assert process.stderr is not None
        while "does not answer" not in process.stderr.readline():
            assert process.poll() is None
        until(lambda: len([*(tmp_path / "tb").rglob("*tfevents*")]) == 5)
        process.send_signal(SIGINT)
        shown, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 130
    assert "interrupted; finished runs are kept" in errors
    assert re.search(r"^tensorboard +5 ", shown, re.M)
