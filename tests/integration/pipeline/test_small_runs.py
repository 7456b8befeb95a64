"""Many small runs in one transaction: each is stored as a whole or not at all, and exactly once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bridges.errors import ExportError, SourceError
from bridges.exporters.base import ConflictError
from bridges.exporters.mlflow import direct
from bridges.exporters.mlflow.database import FEW_POINTS
from bridges.exporters.mlflow.direct import DirectWriter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.lookup import SqlRuns
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.mlflow.postgres import PostgresDatabase, PostgresSession
from bridges.exporters.mlflow.sqlite import SqliteDatabase, SqliteSession
from bridges.formats.mlflow_store.records import LoggedModel, ModelMetric
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.small_runs import MAX_RUNS, MAX_VALUES, export_group, grouped
from bridges.report import RunReport
from bridges.stream.model import Run
from tests import kills
from tests.mlflow_records import START, head, record, run
from tests.servers import PostgreSQL

COUNT = 12
TABLES = ("runs", "params", "tags", "metrics", "latest_metrics", "experiments")


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/target.db"
    postgres: PostgreSQL = request.getfixturevalue("postgres")
    return postgres.create_database(uuid.uuid4().hex)


def small(count: int = COUNT) -> list[Run]:
    """Runs of a few points."""
    return [run(record(head(number))) for number in range(1, count + 1)]


def exporter(uri: str) -> MlflowExporter:
    return MlflowExporter(MlflowOptions(uri))


def export(uri: str, runs: list[Run], to: MlflowExporter | None = None) -> list[RunReport]:
    return [*export_group(runs, to or exporter(uri), ExportOptions())]


@contextmanager
def opened(uri: str) -> Iterator[Any]:
    path = uri.removeprefix("sqlite:///")
    with closing(psycopg.connect(uri) if path == uri else sqlite3.connect(path)) as database:
        yield database


def rows(uri: str) -> dict[str, list[Any]]:
    """The rows of the tables of runs, without the times of a new experiment."""
    with opened(uri) as database:
        return {
            table: sorted(database.execute(f"select * from {table}").fetchall(), key=repr)
            for table in TABLES
        }


def stored(uri: str) -> int:
    with opened(uri) as database:
        return int(database.execute("select count(*) from runs").fetchone()[0])


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The write transactions: `one` for each run, `batch` for those of several."""
    seen: list[str] = []
    for kind in (SqliteDatabase, PostgresDatabase):
        batch, transaction = kind.batch, kind.transaction

        def counted(self: Any, _batch: Any = batch) -> Any:
            seen.append("batch")
            return _batch(self)

        def each(self: Any, *, write: bool = False, _one: Any = transaction) -> Any:
            if write:
                seen.append("one")
            return _one(self, write=write)

        monkeypatch.setattr(kind, "batch", counted)
        monkeypatch.setattr(kind, "transaction", each)
    return seen


def test_many_runs_take_one_transaction_and_leave_the_same_rows(
    uri: str, tmp_path: Path, transactions: list[str]
) -> None:
    reports = export(uri, small())
    assert [(report.status, report.verified) for report in reports] == [("exported", True)] * COUNT
    assert transactions.count("batch") == 1
    alone = f"sqlite:///{tmp_path}/alone.db"
    transactions.clear()
    one_by_one = exporter(alone)
    assert all(export_run(each, one_by_one, ExportOptions()).verified for each in small())
    assert "batch" not in transactions
    if uri.startswith("sqlite"):
        assert rows(uri) == rows(alone)
    before = rows(uri)
    assert [report.status for report in export(uri, small())] == ["unchanged"] * COUNT
    assert rows(uri) == before


def test_a_dry_run_and_a_single_run_take_no_batch(uri: str, transactions: list[str]) -> None:
    export(uri, small(1))
    [*export_group(small(), exporter(uri), ExportOptions(dry_run=True))]
    assert "batch" not in transactions
    assert stored(uri) == 1


def failing(
    monkeypatch: pytest.MonkeyPatch, number: int, error: Exception, times: int = 1_000
) -> list[str]:
    """Fail the writes of a run after its first rows. Returns the ids of all writes begun."""
    write, begun = DirectWriter._write_rows, list[str]()

    def written(self: Any, session: Any, run_id: str, *rest: Any) -> None:
        write(self, session, run_id, *rest)
        begun.append(run_id)
        if run_id == head(number).run_id and begun.count(run_id) <= times:
            raise error

    monkeypatch.setattr(DirectWriter, "_write_rows", written)
    return begun


def test_a_bad_run_leaves_nothing_and_the_others_arrive(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(uri, small(1))
    failing(monkeypatch, 5, ExportError("no"))
    reports = export(uri, small())
    assert [each.status for each in reports].count("failed") == 1
    assert reports[4].status == "failed"
    monkeypatch.undo()
    assert stored(uri) == COUNT - 1
    with opened(uri) as database:
        for table in ("metrics", "params", "tags", "latest_metrics"):
            found = database.execute(f"select count(distinct run_uuid) from {table}")
            assert found.fetchone()[0] == COUNT - 1
    assert [each.status for each in export(uri, small())].count("exported") == 1
    assert stored(uri) == COUNT


REFUSAL = {
    "sqlite": "create trigger no_bad before insert on params when new.value = 'bad'"
    " begin select raise(abort, 'no'); end",
    "postgresql": "alter table params add constraint no_bad check (value <> 'bad')",
}


@pytest.mark.parametrize("few", [FEW_POINTS, 0])
def test_a_row_that_the_database_refuses_fails_its_run_alone(
    uri: str, few: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The statements of a run are sent together: the first error is the one reported."""
    monkeypatch.setattr(direct, "FEW_POINTS", few)
    export(uri, small(1))
    with opened(uri) as database:
        database.execute(REFUSAL[uri.partition(":")[0]])
        database.commit()
    runs = small()
    runs[4] = run(record(head(5), params={"a": "fine", "b": "bad"}))
    reports = export(uri, runs)
    assert [each.status for each in reports].count("failed") == 1
    (finding,) = [each for each in reports[4].findings if each.code == "failed"]
    assert "no" in finding.message
    assert "aborted" not in finding.message
    assert stored(uri) == COUNT - 1
    assert capfd.readouterr() == ("", "")


def test_a_run_of_a_group_takes_few_queries(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query waits for an answer: for the run, and for its points and details read back."""
    queries: list[str] = []
    for kind in (SqliteSession, PostgresSession):
        execute = kind.execute

        def counted(self: Any, statement: str, *values: Any, _execute: Any = execute) -> Any:
            queries.extend([statement] * statement.startswith("select"))
            return _execute(self, statement, *values)

        monkeypatch.setattr(kind, "execute", counted)
    to = exporter(uri)
    export(uri, small(2), to)
    queries.clear()
    counts = []
    for many in (10, 20):
        first = 100 * many
        runs = [run(record(head(first + number))) for number in range(many)]
        assert all(each.verified for each in export(uri, runs, to))
        counts.append(len([each for each in queries if "max(rowid)" not in each]))
        queries.clear()
    assert counts[1] - counts[0] == 3 * 10


def test_an_id_that_another_writer_takes_first_is_found(
    postgres: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look-up of the run and its insertion."""
    uri = postgres.create_database(uuid.uuid4().hex)
    export(uri, small(1))
    free_id, taken = SqlRuns.free_id, list[str]()

    def late(self: Any, *values: Any) -> str:
        run_id = free_id(self, *values)
        if run_id == head(5).run_id and not taken:
            taken.append(run_id)
            with opened(uri) as database:
                database.execute(
                    "insert into runs (run_uuid, name, status, lifecycle_stage, experiment_id)"
                    " select %s, name, status, lifecycle_stage, experiment_id from runs limit 1",
                    (run_id,),
                )
                database.commit()
        return run_id

    monkeypatch.setattr(SqlRuns, "free_id", late)
    reports = export(uri, small())
    assert [each.verified for each in reports] == [True] * COUNT
    assert (stored(uri), len(taken)) == (COUNT, 1)


@pytest.mark.parametrize("error", [ExportError("gone", transient=True), ConflictError()])
def test_a_run_that_fails_in_the_transaction_is_written_alone(
    uri: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    export(uri, small(1))
    failing(monkeypatch, 5, error, times=1)
    reports = export(uri, small())
    assert [each.status for each in reports] == ["unchanged"] + ["exported"] * (COUNT - 1)
    assert all(each.verified for each in reports)
    assert stored(uri) == COUNT


def test_a_failed_transaction_is_repeated_run_by_run(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last check of the batch finds a run of another writer."""
    export(uri, small(1))
    check, calls = DirectWriter._check_seen, list[int]()

    def checked(self: Any, *values: Any, **more: Any) -> None:
        calls.append(1)
        if len(calls) == COUNT - 1:  # of the runs in the batch
            raise ConflictError
        check(self, *values, **more)

    monkeypatch.setattr(DirectWriter, "_check_seen", checked)
    reports = export(uri, small())
    assert [each.status for each in reports] == ["unchanged"] + ["exported"] * (COUNT - 1)
    assert len(calls) == 2 * (COUNT - 1)
    assert stored(uri) == COUNT


@pytest.mark.parametrize("times", [1, 2])
def test_a_transaction_that_ends_early_is_not_believed(
    uri: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """SQLite ends it on a full disk, and PostgreSQL with the connection: no run is lost."""
    end = "select pg_terminate_backend(pg_backend_pid())"
    end = "rollback" if uri.startswith("sqlite") else end
    export(uri, small(1))
    write, done = DirectWriter._write_rows, list[str]()

    def written(self: Any, session: Any, run_id: str, *rest: Any) -> None:
        write(self, session, run_id, *rest)
        done.append(run_id)
        if run_id == head(6).run_id and done.count(run_id) <= times:
            session.execute(end)

    monkeypatch.setattr(DirectWriter, "_write_rows", written)
    reports = export(uri, small())
    assert [each.verified for each in reports].count(True) >= COUNT - 1
    with opened(uri) as database:
        ids = {row[0] for row in database.execute("select run_uuid from runs")}
    assert {each.run_id for each in reports if each.status != "failed"} == ids


def test_metrics_of_a_model_wait_through_a_failed_transaction(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model of run 1 has a metric of run 3, whose transaction fails at first."""
    later = ModelMetric("acc", 0.5, START, 0, head(3).run_id)
    model = LoggedModel("m-" + "1" * 32, "net", "READY", metrics=(later,))
    first = run(record(head(1), models=(model,)))
    to = exporter(uri)
    export(uri, [first], to)
    check, calls = DirectWriter._check_seen, list[int]()

    def checked(self: Any, *values: Any, **more: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise ConflictError
        check(self, *values, **more)

    monkeypatch.setattr(DirectWriter, "_check_seen", checked)
    export(uri, small(3)[1:], to)
    with opened(uri) as database:
        assert database.execute("select count(*) from logged_model_metrics").fetchone()[0] == 1


def test_another_writer_gets_its_turn_between_groups(tmp_path: Path) -> None:
    """A program with the usual time limit of a busy database writes during a long export."""
    runs, to = small(3 * MAX_RUNS), exporter(f"sqlite:///{tmp_path}/target.db")
    export("", runs[:1], to)
    written: list[bool] = []

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "target.db", timeout=60)) as database:
            database.execute(
                "insert into experiments (name, lifecycle_stage) values ('x', 'active')"
            )
            database.commit()
        written.append(True)

    def slowly() -> Iterator[Run]:
        for number, each in enumerate(runs):
            if number == MAX_RUNS + 5:  # in the midst of reading: nothing is locked
                other = threading.Thread(target=write)
                other.start()
                other.join()
            yield each

    for group in grouped(slowly()):
        assert all(report.verified for report in export("", group, to))
    assert written == [True]


def test_groups_are_bounded_and_errors_come_after_the_runs_before() -> None:
    long = run(record(head(99)), {"loss": [(at, at, 1.0) for at in range(MAX_VALUES)]})
    error = SourceError("here", found="nothing", expected="a run", remedy="None.")

    def read() -> Iterator[Run]:
        yield from small(MAX_RUNS + 1)
        yield long
        yield from small(2)
        raise error

    found, raised = list[int](), list[Exception]()
    try:
        for group in grouped(read()):
            found.append(len(group))
    except SourceError as why:
        raised.append(why)
    assert sum(found) == MAX_RUNS + 4
    assert max(found) <= MAX_RUNS
    assert 1 in found
    assert raised == [error]


def store(folder: Path, runs: int) -> Path:
    """A file store of small runs, some of them below others."""
    from tests.benchmarks.mlflow_files import make

    make(folder / "mlruns", runs, 3, 2, 4, 2)
    return folder / "mlruns"


Targets = Callable[[], tuple[str, Callable[[], object]]]  # a new one: its URI, and its state


def targets_in(folder: Path, request: pytest.FixtureRequest, kind: str) -> Targets:
    """New targets of a kind."""

    def sqlite() -> tuple[str, Callable[[], object]]:
        folder.joinpath(name := uuid.uuid4().hex).mkdir()
        return f"sqlite:///{folder}/{name}/t.db", lambda: kills.look(folder / name)

    def postgresql() -> tuple[str, Callable[[], object]]:
        postgres: PostgreSQL = request.getfixturevalue("postgres")
        uri = postgres.create_database(uuid.uuid4().hex)

        def position() -> object:
            with psycopg.connect(uri) as connection:
                return connection.execute("select pg_current_wal_insert_lsn()").fetchone()

        return uri, position

    return sqlite if kind == "sqlite" else postgresql


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_killed_at_any_moment_and_run_again(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """The tables are those of one clean export; before that, each run is there as a whole."""
    source, count = store(tmp_path, 300), 300
    new = targets_in(tmp_path, request, kind)
    clean, _ = new()
    run_to_end(source, clean)
    expected, uri = rows(clean), ""

    def begin() -> kills.Command:
        nonlocal uri
        uri, position = new()
        export(uri, small(1))  # makes the tables
        with opened(uri) as database:
            for table in TABLES[1:5] + TABLES[:1]:
                database.execute(f"delete from {table}")
            database.execute("delete from experiment_tags")
            database.execute("delete from experiments where experiment_id <> 0")
            database.execute("update experiments set name = 'Default' where experiment_id = 0")
            database.commit()
        before = position()
        return kills.Command(kills.start(order(source, uri)), lambda: position() != before)

    def check() -> None:
        found = rows(uri)
        for table in ("metrics", "params", "latest_metrics", "tags"):
            per_run = len(expected[table]) // count
            assert len(found[table]) == per_run * len(found["runs"])
        run_to_end(source, uri)
        assert {**rows(uri), "experiments": []} == {**expected, "experiments": []}

    kills.kill_often(10, 11, begin, check)


def order(source: Path, uri: str) -> list[str]:
    return [
        *(sys.executable, "-m", "bridges", "export", "-q", str(source)),
        *("--to", "mlflow", "--tracking-uri", uri),
    ]


def run_to_end(source: Path, uri: str) -> None:
    done = subprocess.run(order(source, uri), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_processes_at_once(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    source = store(tmp_path, 150)
    uri, _ = targets_in(tmp_path, request, kind)()
    export(uri, small(1))
    both = [subprocess.Popen(order(source, uri)) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert stored(uri) == 151
    with opened(uri) as database:
        assert database.execute("select count(*) from metrics").fetchone()[0] == 7 + 150 * 6


def test_migrate_writes_groups_too(tmp_path: Path, transactions: list[str]) -> None:
    from bridges.migration.config.config import MigrationConfig
    from bridges.migration.tasks import plan
    from bridges.migration.worker import carry_out

    uri = f"sqlite:///{tmp_path}/t.db"
    target = {"to": "mlflow", "tracking_uri": uri}
    said = {"sources": [str(store(tmp_path, 30))], "targets": [target]}
    (task,), _ = plan(MigrationConfig.model_validate(said))
    done = carry_out(task, dry_run=False)
    assert [report.status for report in done.reports] == ["exported"] * 30
    assert transactions.count("batch") == 1
    assert stored(uri) == 30
