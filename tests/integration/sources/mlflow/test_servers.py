"""Tracking servers over every kind of store, against mlflow's own client, and with faults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.errors import ConfigError, SourceError
from bridges.formats.mlflow_store import rest
from bridges.sources.mlflow.server import ServerStore
from bridges.sources.mlflow.store import Store
from tests.integration.sources.mlflow.oracle import MlflowClient, by_mlflow, by_us, copy_database
from tests.mlflow_stores import DATABASE_RELEASES, unpack_database, unpack_store
from tests.proxy import FaultyProxy, LoseAnswer, Refuse
from tests.servers import PostgreSQL, mlflow_server

pytestmark = pytest.mark.slow

NEWEST = DATABASE_RELEASES[-1]
WORKERS = 2
OTHER_POINT = {"key": "loss", "value": 1.0, "timestamp": "5", "step": "0"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over the SQLite file of the newest release."""
    file = unpack_database(NEWEST, tmp_path_factory.mktemp("store"))
    with mlflow_server(f"sqlite:///{file}", workers=WORKERS) as url:
        yield url


def assert_equal(url: str, *, models: bool = True) -> None:
    expected, found = by_mlflow(url), by_us(ServerStore(url))
    assert found.keys() == expected.keys()
    assert len(found) == 19
    for run in expected:
        assert found[run] == expected[run]
    assert any(run.models for run in found.values()) == models


def test_a_server_over_sqlite(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal(url)
    counts = {"registered models": 2, "model versions": 1}
    assert ServerStore(f"{url}/").left_out() == {**counts, "traces": 1}
    monkeypatch.setattr("bridges.sources.mlflow.server.MAX_TRACES", 1)
    assert ServerStore(url).left_out() == {**counts, "traces or more": 1}


def test_a_server_over_files(tmp_path: Path) -> None:
    files = unpack_store(NEWEST, tmp_path)
    environment = {"MLFLOW_ALLOW_FILE_STORE": "true"}
    with mlflow_server(str(files), workers=WORKERS, environment=environment) as url:
        assert_equal(url)


def test_a_server_over_postgresql(postgres: PostgreSQL, tmp_path: Path) -> None:
    uri = postgres.create_database("served")
    file = unpack_database(NEWEST, tmp_path)
    copy_database(file, uri.replace("postgresql://", "postgresql+psycopg://"))
    with mlflow_server(uri, workers=WORKERS) as url:
        assert_equal(url)


def test_lists_and_histories_of_many_pages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_mlflow(url)
    monkeypatch.setattr(rest, "POINTS_PER_PAGE", 7)
    monkeypatch.setattr("bridges.sources.mlflow.server.ITEMS_PER_PAGE", 2)
    assert by_us(ServerStore(url)) == expected


def test_each_history_is_asked_for_with_a_number_of_points(url: str) -> None:
    """Without one, MLflow 3.12 answers with no points and an endless row of pages."""
    with FaultyProxy(url) as proxy:
        by_us(ServerStore(proxy.url))
        asked = [path for _, path, _ in proxy.log if "get-history" in path]
    assert len(asked) > 20
    assert all(f"max_results={rest.POINTS_PER_PAGE}" in path for path in asked)


def test_a_server_that_ignores_pages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases before 3 answer with all points, whatever is asked for."""
    get = rest.RestClient.get

    def without_pages(self: rest.RestClient, call: str, query: Any) -> Any:
        kept = {k: v for k, v in query.items() if k not in ("max_results", "page_token")}
        return get(self, call, kept if "history" in call else query)

    monkeypatch.setattr(rest, "POINTS_PER_PAGE", 7)
    monkeypatch.setattr(rest.RestClient, "get", without_pages)
    assert by_us(ServerStore(url)) == by_mlflow(url)


def test_infinities_of_a_database_are_told(url: str) -> None:
    """The run has inf, -inf and the largest float64, which is all that the database keeps."""
    store = ServerStore(url)
    record, _ = store.read(find(store, "parent"))
    assert [(finding.code, finding.count) for finding in record.findings] == [
        ("infinity-in-database", 3)
    ]


# --- faults -----------------------------------------------------------------------------------


def find(store: Store, name: str) -> Any:
    return next(
        head
        for experiment in store.experiments()
        for head in store.heads(experiment)
        if head.name == name
    )


def test_answers_that_are_lost_are_asked_for_again(url: str) -> None:
    def faults(method: str, path: str, number: int) -> Any:
        return [None, Refuse(503, "0"), LoseAnswer(), None][number % 4]

    with FaultyProxy(url, faults) as proxy:
        assert by_us(ServerStore(proxy.url)) == by_mlflow(url)
        assert proxy.faults["Refuse"] > 5
        assert proxy.faults["LoseAnswer"] > 5


def test_a_server_that_vanishes_is_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridges.http.FIRST_PAUSE", 0.001)
    is_gone = False

    def faults(method: str, path: str, number: int) -> Any:
        return Refuse(502) if is_gone else None

    with FaultyProxy(url, faults) as proxy:
        store = ServerStore(proxy.url)
        head = find(store, "child 0 é")
        is_gone = True
        with pytest.raises(SourceError, match=f"run {head.run_id}: found .*502"):
            store.read(head)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({}, "a history of 0 points without the latest one"),
        (
            {"metrics": [{"key": "loss", "value": 1.0, "timestamp": "5", "step": "0"}]},
            "of 1 points",
        ),
    ],
)
def test_a_history_without_its_latest_point(
    answer: dict[str, Any], found: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers answer 200 `{}` for runs and keys that are gone."""
    store = ServerStore(url)
    head = find(store, "child 0 é")
    get = rest.RestClient.get
    monkeypatch.setattr(
        rest.RestClient,
        "get",
        lambda self, call, query: answer if "history" in call else get(self, call, query),
    )
    with pytest.raises(SourceError, match=f"run {head.run_id}: metric .*: found .*{found}"):
        store.read(head)


def test_a_page_token_that_repeats(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ServerStore(url)
    head = find(store, "child 0 é")
    get = rest.RestClient.get

    def repeating(self: rest.RestClient, call: str, query: Any) -> Any:
        return {"next_page_token": "same"} if "history" in call else get(self, call, query)

    monkeypatch.setattr(rest.RestClient, "get", repeating)
    with pytest.raises(SourceError, match="the server's listing does not end"):
        store.read(head)


def test_a_run_that_is_gone(url: str) -> None:
    store = ServerStore(url)
    head = find(store, "child 0 é")
    with pytest.raises(SourceError, match="found no run of this id"):
        store.read(replace(head, run_id="0" * 32))


def test_places_that_are_not_servers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridges.http.FIRST_PAUSE", 0.001)
    with pytest.raises(SourceError, match=r"found this instead of an answer: .*404"):
        ServerStore(f"{url}/nowhere").experiments()
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:1: found .*refused"):
        ServerStore("http://127.0.0.1:1").experiments()
    with pytest.raises(ConfigError, match="contains a login") as raised:
        ServerStore(url.replace("//", "//me:s3cret@"))
    assert "s3cret" not in str(raised.value)


def test_a_run_that_grows_while_it_is_read(url: str) -> None:
    """Each read has all points that were there when it began."""
    client = MlflowClient(url)
    run = client.create_run("0", run_name="growing").info.run_id
    store = ServerStore(url)
    for step in range(3):
        client.log_metric(run, "m", float(step), timestamp=step, step=step)
        _, (metric,) = store.read(find(store, "growing"))
        assert metric.step.tolist() == list(range(step + 1))
    client.delete_run(run)
    assert re.fullmatch("deleted", find(store, "growing").stage)
