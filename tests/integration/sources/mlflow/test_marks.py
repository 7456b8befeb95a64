"""Marks of runs in databases: each change by mlflow's client changes that of its run alone."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bridges.migration.config.config import MigrationConfig
from bridges.migration.known_runs import KnownRuns
from bridges.migration.tasks import plan
from bridges.migration.worker import carry_out_all
from bridges.report import RunReport
from bridges.sources.mlflow import source
from bridges.sources.mlflow.database import DatabaseStore
from bridges.sources.mlflow.location import stores_at
from bridges.sources.mlflow.mysql import MysqlDatabase
from bridges.sources.mlflow.opening import open_store
from bridges.sources.mlflow.source import MlflowSource
from tests.integration.exporters.mlflow.support import MlflowClient
from tests.integration.sources.mlflow.oracle import copy_database
from tests.servers import MariaDB, PostgreSQL

START = 1_700_000_000_000


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/source.db"
    postgres: PostgreSQL = request.getfixturevalue("postgres")
    return postgres.create_database(uuid.uuid4().hex)


def client_of(uri: str) -> Any:
    return MlflowClient(uri.replace("postgresql://", "postgresql+psycopg://"))


def marks(uri: str) -> dict[str, str]:
    """The mark of each run of a store by id, read anew."""
    (place,) = stores_at(uri)
    store = open_store(place)
    assert isinstance(store, DatabaseStore)
    heads = [head for each in store.experiments() for head in store.heads(each)]
    return dict(zip((head.run_id for head in heads), store.marks(heads), strict=True))


def changes(client: Any, experiment: str, run_id: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every change of a run that the client offers, and of its experiment."""
    from mlflow.data.meta_dataset import MetaDataset  # noqa: F401
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelOutput,
        LoggedModelParameter,
        LoggedModelTag,
        Metric,
        Param,
        RunTag,
    )

    def log(key: str, value: float, step: int, time: int = START) -> Callable[[], Any]:
        return lambda: client.log_metric(run_id, key, value, time, step)

    yield "a new key", log("acc", 0.5, 0)
    yield "a later step", log("loss", 0.5, 100)
    yield "an earlier step", log("loss", 0.25, 50)
    yield "another time", log("loss", 0.25, 50, START + 1)
    yield "another value", log("loss", 0.125, 50)
    yield "not a number", log("loss", float("nan"), 50)
    yield "zero beside it", log("loss", 0.0, 50)
    yield "a negative step", log("loss", 1.0, -5)
    batch = [Metric("loss", 1.0, START, 7), Metric("loss", 1.0, START, 8)]
    yield "a batch of points", lambda: client.log_batch(run_id, batch)
    yield "a batch of params", lambda: client.log_batch(run_id, params=[Param("a", "1")])
    yield "a batch of tags", lambda: client.log_batch(run_id, tags=[RunTag("a", "1")])
    yield "a param", lambda: client.log_param(run_id, "lr", "0.1")
    yield "a tag", lambda: client.set_tag(run_id, "stage", "draft")
    yield "another text of a tag", lambda: client.set_tag(run_id, "stage", "final")
    yield "a removed tag", lambda: client.delete_tag(run_id, "stage")
    yield "its name", lambda: client.set_tag(run_id, "mlflow.runName", "other")
    yield "its end", lambda: client.set_terminated(run_id, "FAILED", START + 5)
    yield "its status", lambda: client.update_run(run_id, status="FINISHED")
    yield "its name by update", lambda: client.update_run(run_id, name="third")
    data = Dataset("train", "d1", "local", "{}", "schema", "profile")
    first, second = DatasetInput(data, [InputTag("context", "a")]), DatasetInput(data, [])
    other = Dataset("test", "d2", "local", "{}")
    yield "a dataset", lambda: client.log_inputs(run_id, [second])
    yield (
        "the tag of an input",
        lambda: client.log_inputs(run_id, [DatasetInput(other, first.tags)]),
    )
    model = client.create_logged_model(experiment, "net", run_id).model_id
    yield "a model as output", lambda: client.log_outputs(run_id, [LoggedModelOutput(model, 3)])
    yield "the status of a model", lambda: client.finalize_logged_model(model, "READY")
    yield "a tag of a model", lambda: client.set_logged_model_tags(model, {"a": "1"})
    yield "its other text", lambda: client.set_logged_model_tags(model, {"a": "2"})
    yield "its removal", lambda: client.delete_logged_model_tag(model, "a")
    yield (
        "a param of a model",
        lambda: (
            client.log_model_params(model, {"depth": "3"})
            if hasattr(client, "log_model_params")
            else client._tracking_client.store.log_logged_model_params(
                model, [LoggedModelParameter("depth", "3")]
            )
        ),
    )
    del LoggedModelTag
    yield (
        "a metric of a model",
        lambda: client.log_metric(run_id, "m", 1.0, START, 0, model_id=model),
    )
    yield "a removed model", lambda: client.delete_logged_model(model)
    yield "its experiment's tag", lambda: client.set_experiment_tag(experiment, "team", "a")
    yield "its experiment's name", lambda: client.rename_experiment(experiment, "renamed")
    yield "its removal", lambda: client.delete_run(run_id)
    yield "its return", lambda: client.restore_run(run_id)
    yield "its experiment's removal", lambda: client.delete_experiment(experiment)
    yield "its experiment's return", lambda: client.restore_experiment(experiment)


def test_each_change_by_the_client_changes_the_mark(uri: str) -> None:
    client = client_of(uri)
    experiment, other = client.create_experiment("e"), client.create_experiment("other")
    changed = client.create_run(experiment).info.run_id
    same = client.create_run(other).info.run_id
    client.log_metric(changed, "loss", 1.0, START, 0)
    client.log_metric(same, "loss", 1.0, START, 0)
    before = marks(uri)
    assert before == marks(uri)
    assert all(before.values())
    count = 0
    for what, change in changes(client, experiment, changed):
        before = marks(uri)  # creating a model is a change, too
        change()
        after = marks(uri)
        assert after[changed] != before[changed], what
        assert after[same] == before[same], what
        count += 1
    assert count > 30


def test_a_new_model_changes_the_mark(uri: str) -> None:
    client = client_of(uri)
    experiment = client.create_experiment("e")
    run_id = client.create_run(experiment).info.run_id
    before = marks(uri)
    client.create_logged_model(experiment, "net", run_id)
    assert marks(uri) != before


def test_a_repeat_and_a_vacuum_change_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/source.db"
    client = client_of(uri)
    for run in range(3):
        run_id = client.create_run("0").info.run_id
        for step in range(10):
            client.log_metric(run_id, "loss", float(run), START, step)
    client.log_metric(run_id, "loss", 2.0, START, 9)  # an exact repeat
    before = marks(uri)
    with closing(sqlite3.connect(tmp_path / "source.db")) as database:
        database.execute("vacuum")
    client.log_metric(run_id, "loss", 2.0, START, 9)
    assert marks(uri) == before


def test_marks_of_mysql(maria: MariaDB, tmp_path: Path) -> None:
    """The tables and columns differ, so the marks are others; a new point changes one of them."""
    file = tmp_path / "source.db"
    client = client_of(f"sqlite:///{file}")
    ids = [client.create_run("0").info.run_id for _ in range(2)]
    for each in ids:
        client.log_metric(each, "loss", 1.0, START, 0)
    uri = maria.create_database("marks")
    copy_database(file, uri)
    store = DatabaseStore(MysqlDatabase(uri))
    (experiment,) = store.experiments()
    heads = [*store.heads(experiment)]
    before = store.marks(heads)
    MlflowClient(uri).log_metric(heads[1].run_id, "loss", 1.0, START, -1)
    after = store.marks(heads)
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def test_only_parts_with_changed_runs_are_read_again(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "RUNS_PER_PART", 1)
    client = client_of(uri)
    ids = [client.create_run("0", START + number).info.run_id for number in range(4)]
    for each in ids:
        client.log_metric(each, "loss", 1.0, START, 0)
        client.set_terminated(each, "FINISHED", START + 5)
    target = {"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/target.db"}
    config = MigrationConfig.model_validate({"sources": [uri], "targets": [target]})
    assert [_known(_migrated(config)) for _ in range(2)] == [[False] * 4, [True] * 4]
    client.log_metric(ids[2], "loss", 1.0, START, -1)
    reports = _migrated(config)
    assert sorted(_known(reports)) == [False, True, True, True]
    assert sorted(each.status for each in reports) == ["appended", *["unchanged"] * 3]


def _migrated(config: MigrationConfig) -> list[RunReport]:
    """The reports of a migration in this process."""
    known = KnownRuns(config.targets)
    known.load()
    reports: list[RunReport] = []
    for task in plan(config, known.settings)[0]:
        left, done = known.sift(task)
        reports += done.reports
        if left is not None:
            reports += carry_out_all([left], dry_run=False)[0][0].reports
    return reports


def _known(reports: list[RunReport]) -> list[bool]:
    return [
        any(finding.code == "known-by-its-files" for finding in report.findings)
        for report in reports
    ]


def test_parts_without_marks_have_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is gone in the meantime has no mark: the file of the database is compared."""
    uri = f"sqlite:///{tmp_path}/source.db"
    client_of(uri).create_run("0")
    (part,) = MlflowSource().split(uri)
    assert part.names
    assert part.files == ()
    monkeypatch.setattr(DatabaseStore, "marks", lambda self, heads: [""] * len(heads))
    (part,) = MlflowSource().split(uri)
    assert part.names == ()
    assert len(part.files) == 1
