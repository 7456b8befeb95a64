"""The ways into a store give the same content: tables row by row, files, nested trials."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

import bridges
from bridges.exporters.mlflow.postgres import decode_points, encode_points
from bridges.exporters.mlflow.rows import MetricColumn, metric_columns
from bridges.pipeline.options import LayoutOptions
from bridges.stream.layout import lay_out
from bridges.stream.model import Run
from bridges.testing.exporters import ROWS
from tests.golden.test_mlflow_schemas import columns as golden_columns
from tests.integration.exporters.mlflow.support import MlflowClient, codes_of, export, judge
from tests.servers import PostgreSQL, free_port
from tests.support import DATA, make_run, read_one, state

SEED = DATA / "seed.txt"
SEARCH = DATA / "groundtruth" / "hp_search_unnamed"
TABLES = {
    "runs": "name, source_type, source_name, entry_point_name, user_id, status, start_time,"
    " end_time, deleted_time, source_version, lifecycle_stage, experiment_id",
    "params": "key, value",
    "tags": "key, value",
    "metrics": "key, value, timestamp, step, is_nan",
    "latest_metrics": "key, value, timestamp, step, is_nan",
    "experiments": "name, lifecycle_stage, artifact_location",
    "experiment_tags": "key, value, experiment_id",
}
NewStore = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> NewStore:
    """Makes an empty store of one kind; its URI."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path}/{uuid.uuid4().hex}.db"
    postgres: PostgreSQL = request.getfixturevalue("postgres")
    return lambda: postgres.create_database(uuid.uuid4().hex)


def content(uri: str) -> dict[str, list[tuple[Any, ...]]]:
    """The tables, without run ids."""
    database: Any
    if uri.startswith("sqlite"):
        database = sqlite3.connect(uri.removeprefix("sqlite:///"))
    else:
        database = psycopg.connect(uri)
    with closing(database):
        return {
            table: sorted(database.execute(f"select {columns} from {table}").fetchall(), key=repr)
            for table, columns in TABLES.items()
        }


PARTS = {"at once": [len(ROWS)], "grown": [2, 4, len(ROWS)]}


@pytest.mark.slow
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_both_ways_give_the_same_tables(new_store: NewStore, parts: list[int]) -> None:
    found = []
    for writer in ("direct", "client"):
        uri = new_store()
        for stop in parts:
            settings = {"lr": 1e-5, "long": "x" * 9000, "none": None}
            run = make_run(ROWS[:stop], params=settings, tags={"a": "b"}, status="finished")
            assert export(run, uri, mlflow_writer=writer).verified
        found.append(content(uri))
    direct, client = found
    for table in TABLES:
        assert direct[table] == client[table], table


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sorted(path.name for path in SEARCH.parent.iterdir()))
def test_both_ways_give_the_same_live_run(new_store: NewStore, scenario: str) -> None:
    run = read_one(SEARCH.parent / scenario / "trainer_state.json")
    uris = {writer: new_store() for writer in ("direct", "client")}
    for writer, uri in uris.items():
        assert export(run, uri, mlflow_writer=writer).verified
    assert content(uris["direct"]) == content(uris["client"])


@pytest.mark.slow
def test_one_way_goes_on_where_the_other_stopped(new_store: NewStore) -> None:
    uri, ways = new_store(), ("client", "direct", "client", "direct")
    for stop, writer in zip((1, 2, 4, len(ROWS)), ways, strict=True):
        report = export(make_run(ROWS[:stop]), uri, mlflow_writer=writer)
        assert (report.status, report.verified) == ("exported" if stop == 1 else "appended", True)
    for writer in ways[:2]:
        assert export(make_run(ROWS), uri, mlflow_writer=writer).status == "unchanged"
    assert len(content(uri)["runs"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["direct", "client"])
def test_trials_are_nested_under_their_search(new_store: NewStore, writer: str) -> None:
    uri = new_store()
    rows = [[{"loss": 1.0 / n, "step": 1}] for n in range(1, 4)]
    trials = [make_run(part, name=f"t{n}", trial=str(n), group="hp") for n, part in enumerate(rows)]
    for _ in range(2):
        assert all(export(trial, uri, mlflow_writer=writer).verified for trial in trials)
    runs = judge(uri, "bridges")
    assert sorted(run.name for run in runs) == ["hp", "t0", "t1", "t2"]
    client = MlflowClient(uri)
    (parent,) = client.search_runs(["1"], "tags.`mlflow.runName` = 'hp'")
    children = {run.tags.get("mlflow.parentRunId") for run in runs if run.name.startswith("t")}
    assert children == {parent.info.run_id}
    assert (parent.info.status, parent.data.metrics) == ("FINISHED", {})
    assert parent.info.end_time == max(run.end or 0 for run in runs)


def attached(uri: str, location: str, folder: Path) -> dict[str, bytes]:
    """The artifacts of a run, as mlflow's client downloads them."""
    client, run_id = MlflowClient(uri), location.rpartition("/")[2]
    if not client.list_artifacts(run_id, "source"):
        return {}
    place = Path(client.download_artifacts(run_id, "source", str(folder)))
    return {file.name: file.read_bytes() for file in place.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["direct", "client"])
def test_the_source_is_attached(new_store: NewStore, writer: str, tmp_path: Path) -> None:
    uri = new_store()
    export = partial(
        bridges.export, SEED, to="mlflow", tracking_uri=uri, options={"mlflow_writer": writer}
    )
    (plain,) = export().runs
    assert attached(uri, str(plain.location), tmp_path / "a") == {}
    for _ in range(2):
        report = export(attach_source=True)
        assert (report.exit_code, report.runs[0].status) == (0, "unchanged")
    expected = {"seed.txt": SEED.read_bytes()}
    assert attached(uri, str(plain.location), tmp_path / "b") == expected


@pytest.mark.slow
def test_the_source_is_attached_through_a_server(mlflow_url: str, tmp_path: Path) -> None:
    experiment = uuid.uuid4().hex
    report = bridges.export(
        SEED, to="mlflow", tracking_uri=mlflow_url, experiment=experiment, attach_source=True
    )
    assert report.exit_code == 0, report.runs[0].findings
    location = str(report.runs[0].location)
    assert attached(mlflow_url, location, tmp_path / "a") == {"seed.txt": SEED.read_bytes()}


def test_what_cannot_be_attached_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "state.json"
    row = {"loss": 1, "step": 1}
    for content in (
        state([row], trial_params={"api_key": "x"}),
        state([{**row, "note": "hf_AbCdEfGhIjKlMnOpQrSt", "url": "https://u:hunter2@h/x"}]),
    ):
        file.write_bytes(content)
        report = bridges.export(file, to="mlflow", attach_source=True)
        assert (report.exit_code, codes_of(report.runs)[-1]) == (1, "source-not-attached")
        assert "holds secrets" in report.runs[0].findings[-1].message
    assert not [*tmp_path.rglob("artifacts/source")]
    report = bridges.export(SEED, to="tensorboard", attach_source=True)
    assert (report.exit_code, codes_of(report.runs)[-1]) == (1, "source-not-attached")
    (tmp_path / "mlruns").write_text("in the way")
    report = bridges.export(SEED, to="mlflow", attach_source=True)
    assert "cannot be written: " in report.runs[0].findings[-1].message


def test_binary_copy_says_what_the_columns_hold() -> None:
    layout = lay_out(make_run(ROWS), "mlflow", LayoutOptions())
    for column in (*metric_columns(layout, 0), *golden_columns_of_all()):
        data = encode_points("f" * 32, column)
        key = column.key.encode()
        size = 2 + 4 + len(key) + 12 + 5 + 12 + 12 + 36
        assert len(data) == size * len(column.value)
        assert data[:6] == b"\0\6" + len(key).to_bytes(4, "big")
        assert data[6 : 6 + len(key)] == key
    (piece,) = decode_points([b"\0" * 21])
    assert len(piece.step) == 0


def golden_columns_of_all() -> list[MetricColumn]:
    from bridges.exporters.mlflow.limits import Limits

    return golden_columns(Limits())


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_a_password_may_hold_the_signs_of_a_uri(postgres: PostgreSQL, writer: str) -> None:
    """As typed, not percent-encoded."""
    database = f"signs{writer}"
    postgres.create_database(database)
    uri = postgres.create_login(f"user{writer}", "PASSWORD", database)
    postgres.execute("ALTER ROLE {} PASSWORD 'a@b/c?d#e'", f"user{writer}")
    report = export(make_run(ROWS), uri.replace("PASSWORD", "a@b/c?d#e"), mlflow_writer=writer)
    assert report.verified
    assert "b/c" not in repr(report)


def test_a_password_is_never_shown(postgres: PostgreSQL) -> None:
    postgres.create_database("annas")
    uri = postgres.create_login("anna", "geheim", "annas")
    run: Run = make_run(ROWS)
    report = export(run, uri)
    assert report.verified
    wrong = export(run, uri.replace("geheim", "falsch"))
    lost = export(run, f"postgresql://anna:geheim@127.0.0.1:{free_port()}/x")
    for shown in map(repr, (report, wrong, lost)):
        assert "geheim" not in shown
        assert "falsch" not in shown
    assert "password authentication failed" in wrong.findings[-1].message
    assert str(report.location).startswith("postgresql://anna@127.0.0.1")
