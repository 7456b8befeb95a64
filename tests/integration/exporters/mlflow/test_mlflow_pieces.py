"""A large run is read back from databases in pieces: a change in any of them is found."""

from __future__ import annotations

import uuid
from itertools import count

import numpy as np
import pytest

from bridges.exporters.mlflow import database as databases
from bridges.exporters.mlflow import postgres, sqlite
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.mlflow.postgres import PostgresDatabase
from bridges.exporters.mlflow.sqlite import SqliteDatabase
from bridges.formats.mlflow_store.records import Metric
from bridges.pipeline import compare
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from bridges.sources.mlflow.runs import run_of
from bridges.stream.model import Run
from tests.mlflow_records import START, head, record
from tests.servers import PostgreSQL

COUNT, PIECE = databases.FEW_OF_KEY + 10, 4  # of a key: it is read alone
NAN = {3, 4, 40}
PLACE = "where key = 'loss' and value = {} and is_nan = false"
CHANGES = {
    "value": f"update metrics set value = 9 {PLACE}",
    "time": f"update metrics set timestamp = 9 {PLACE}",
    "step": f"update metrics set step = 500 + step {PLACE}",
    "missing": f"delete from metrics {PLACE}",
    "more": "insert into metrics (key, value, timestamp, run_uuid, step, is_nan)"
    f" select key, 9, timestamp, run_uuid, step, is_nan from metrics {PLACE}",
}


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "PART", 2)
    monkeypatch.setattr(databases, "FEW_POINTS", 2)
    monkeypatch.setattr(sqlite, "ROWS_PER_CHUNK", PIECE)
    monkeypatch.setattr(postgres, "BUFFER_BYTES", PIECE * 42)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('pieces')}/t.db"
    server: PostgreSQL = request.getfixturevalue("postgres")
    return server.create_database(uuid.uuid4().hex)


numbers = count(1)


def run_with(step: np.ndarray, time: np.ndarray) -> Run:
    """A run of two keys; the values are positions, some of them NaN."""
    value = np.array([np.nan if at in NAN else at for at in range(COUNT)])
    metrics = [Metric(key, value, START + time, step) for key in ("loss", "other")]
    return run_of(record(head(next(numbers))), metrics, "mlruns")


at = np.arange(COUNT)
SHAPES = {"steps": (at, at), "one step": (at * 0, at), "one time": (at, at * 0), "back": (-at, at)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_all_points_are_equal_without_reading_them_at_once(
    uri: str, shape: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_compare_tag", None)
    report = export_run(run_with(*shape), MlflowExporter(MlflowOptions(uri)), ExportOptions())
    assert report.verified


@pytest.mark.parametrize("sql", CHANGES.values(), ids=CHANGES)
def test_a_change_in_any_piece_is_found(uri: str, sql: str) -> None:
    run, exporter = run_with(at, at), MlflowExporter(MlflowOptions(uri))
    assert export_run(run, exporter, ExportOptions()).verified
    is_sqlite = uri.startswith("sqlite")
    database = SqliteDatabase(uri[len("sqlite:///") :]) if is_sqlite else PostgresDatabase(uri)
    with database.transaction() as session:
        rows = session.execute("select * from metrics").fetchall()
    marks = ", ".join("?" * len(rows[0]))
    for place in (0, 1, PIECE + 1, COUNT - PIECE, COUNT - 1):
        with database.transaction(write=True) as session:
            session.execute(sql.format(place))
        report = verify_run(run, exporter, ExportOptions())
        codes = {"missing-points", "unexpected-points"} & {each.code for each in report.findings}
        assert (report.verified, bool(codes)) == (False, True)
        with database.transaction(write=True) as session:
            session.execute("delete from metrics")
            session.executemany(f"insert into metrics values ({marks})", rows)
    assert verify_run(run, exporter, ExportOptions()).verified
