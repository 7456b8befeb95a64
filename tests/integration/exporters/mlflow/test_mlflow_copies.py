"""Runs that came from MLflow, written directly: ids, experiments, details.

The judges are mlflow's own client and the tables.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.formats.mlflow_store.records import (
    DELETED,
    Dataset,
    Experiment,
    Input,
    LoggedModel,
    ModelLink,
    ModelMetric,
    RunRecord,
)
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.model import Run
from tests.integration.exporters.mlflow.support import MlflowClient, ViewType, failure
from tests.mlflow_records import CURVE, START, TAGS, VISION, Points, head, record, run
from tests.servers import PostgreSQL
from tests.support import DATA

NewStore = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgres"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store."""
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/target.db"
    postgres: PostgreSQL = request.getfixturevalue("postgres")
    return postgres.create_database(uuid.uuid4().hex)


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty SQLite store."""
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/target.db"


def send(*runs: Run, to: str, **options: Any) -> list[RunReport]:
    """Export runs by one exporter."""
    exporter = MlflowExporter(MlflowOptions(to, **options))
    return [export_run(each, exporter, ExportOptions()) for each in runs]


def dump(uri: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, sorted."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    database: Any
    if uri.startswith("sqlite"):
        database = sqlite3.connect(uri.removeprefix("sqlite:///"))
        names = "select name from sqlite_master where type = 'table'"
    else:
        database = psycopg.connect(uri)
        names = "select tablename from pg_tables where schemaname = 'public'"
    try:
        for (name,) in database.execute(names).fetchall():
            found[name] = sorted(database.execute(f"select * from {name}").fetchall(), key=repr)
    finally:
        database.close()
    return found


def points(client: Any, run_id: str) -> dict[str, list[tuple[int, int, str]]]:
    """The points of a run: step, milliseconds after START, value."""
    return {
        key: sorted(
            (point.step, point.timestamp - START, repr(point.value))
            for point in client.get_metric_history(run_id, key)
        )
        for key in client.get_run(run_id).data.metrics
    }


def statuses(reports: list[RunReport]) -> list[tuple[str, bool | None]]:
    return [(report.status, report.verified) for report in reports]


def experiments(client: Any) -> dict[str, Any]:
    """All experiments by name."""
    return {found.name: found for found in client.search_experiments(ViewType.ALL)}


def test_a_run_keeps_its_id_its_details_and_its_points(uri: str) -> None:
    assert statuses(send(run(), to=uri)) == [("exported", True)]
    client = MlflowClient(uri)
    found = client.get_run(head().run_id)
    info = found.info
    assert (info.run_name, info.status, info.user_id) == ("nimble-toad-449", "FINISHED", "ada")
    assert (info.start_time, info.end_time) == (START, START + 60_000)
    assert found.data.params == record().params
    own = {"bridges.key", "bridges.state"}
    assert {k: v for k, v in found.data.tags.items() if k not in own} == TAGS
    assert found.data.tags.keys() >= own
    assert points(client, info.run_id) == {
        key: sorted((step, time, repr(value)) for step, time, value in curve)
        for key, curve in CURVE.items()
    }
    (row,) = dump(uri)["runs"]
    assert {"LOCAL", "train.py", "1a2b3c", "main"} <= {*row}
    vision = experiments(client)["vision"]
    assert info.experiment_id == vision.experiment_id
    assert vision.tags == {**VISION.tags, "bridges.experiment_id": VISION.id}
    assert (vision.creation_time, vision.last_update_time) == (VISION.created, VISION.updated)


def test_again_writes_no_row(uri: str) -> None:
    runs = [run(), run(record(head(2, status="RUNNING", end=None))), run(record(head(3)), {})]
    send(*runs, to=uri)
    before = dump(uri)
    assert statuses(send(*runs, to=uri)) == [("unchanged", True)] * 3
    assert dump(uri) == before


def test_runs_go_into_the_experiments_of_their_names(uri: str) -> None:
    other = Experiment("7", "speech")
    send(run(), run(record(head(2, other))), run(record(head(3))), to=uri)
    client = MlflowClient(uri)
    found = experiments(client)
    counts = {
        name: len(client.search_runs([found[name].experiment_id])) for name in ("vision", "speech")
    }
    assert counts == {"vision": 2, "speech": 1}


@pytest.mark.parametrize("by", ["option", "environment"])
def test_a_named_experiment_takes_all_runs(
    sqlite: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"experiment": "all"} if by == "option" else {}
    if by == "environment":
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "all")
    send(run(), run(record(head(2, Experiment("7", "speech")))), to=sqlite, **named)
    client = MlflowClient(sqlite)
    found = experiments(client)
    assert sorted(found) == ["Default", "all"]
    assert len(client.search_runs([found["all"].experiment_id])) == 2
    assert "bridges.experiment_id" not in found["all"].tags


def test_a_new_sqlite_file_keeps_the_ids_of_experiments(sqlite: str) -> None:
    """A later process goes on alike; a file with other experiments gets its own ids."""
    default = Experiment("0", "Default", created=5, updated=6, tags={"old": "yes"})
    for number, experiment in enumerate([VISION, default, Experiment("9", "speech")]):
        send(run(record(head(number, experiment))), to=sqlite)
    client = MlflowClient(sqlite)
    found = experiments(client)
    ids = {name: found[name].experiment_id for name in found}
    assert ids == {"vision": VISION.id, "Default": "0", "speech": "9"}
    assert found["Default"].creation_time == 5
    assert found["Default"].tags == {"old": "yes", "bridges.experiment_id": "0"}
    client.create_experiment("made by hand")
    send(run(record(head(4, Experiment("12", "text")))), to=sqlite)
    text = experiments(client)["text"]
    assert text.experiment_id != "12"
    assert text.tags == {"bridges.experiment_id": "12"}


def test_ids_beyond_the_columns_of_postgresql_are_replaced(postgres: PostgreSQL) -> None:
    uri = postgres.create_database(uuid.uuid4().hex)
    assert statuses(send(run(), to=uri)) == [("exported", True)]
    assert experiments(MlflowClient(uri))["vision"].experiment_id == "1"


def test_an_experiment_deleted_in_the_target_is_an_error(uri: str) -> None:
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("vision"))
    before = dump(uri)
    (report,) = send(run(), to=uri)
    assert failure(report) == (
        "the experiment 'vision' is deleted in MLflow. Restore it, or give another --experiment."
    )
    assert dump(uri) == before


def test_deleted_runs_and_experiments_arrive_as_deleted(uri: str) -> None:
    gone = replace(VISION, stage=DELETED)
    deleted = run(record(head(1, gone, stage=DELETED), deleted=START + 99))
    assert statuses(send(deleted, to=uri)) == [("exported", True)]
    before = dump(uri)
    client = MlflowClient(uri)
    assert experiments(client)["vision"].lifecycle_stage == DELETED
    assert client.get_run(head().run_id).info.lifecycle_stage == DELETED
    assert START + 99 in [value for row in before["runs"] for value in row]
    assert statuses(send(deleted, to=uri)) == [("unchanged", True)]
    assert dump(uri) == before


def test_a_run_deleted_in_the_target_stays_deleted(uri: str) -> None:
    send(run(), to=uri)
    client = MlflowClient(uri)
    client.delete_run(head().run_id)
    before = dump(uri)
    (report,) = send(run(), to=uri)
    assert "deleted in MLflow" in failure(report)
    assert dump(uri) == before
    assert statuses(send(run(), to=uri, force=True)) == [("exported", True)]
    assert statuses(send(run(), to=uri)) == [("unchanged", True)]
    assert len(dump(uri)["runs"]) == 2


def test_a_run_that_went_on_gets_its_end_and_its_new_details(uri: str) -> None:
    live = run(record(head(status="RUNNING", end=None)))
    assert statuses(send(live, to=uri)) == [("exported", True)]
    client = MlflowClient(uri)
    info = client.get_run(head().run_id).info
    assert (info.status, info.end_time) == ("RUNNING", None)
    tags = {**TAGS, "mlflow.log-model.history": "[]", "late": "yes"}
    ended = run(record(head(tags=tags), params={**record().params, "lr": "0.2", "more": "1"}))
    (report,) = send(ended, to=uri)
    assert (report.status, report.verified) == ("appended", True)
    (differs,) = [found for found in report.findings if found.code == "params-differ"]
    assert (differs.severity, differs.where, differs.count) == ("loss", "param 'lr'", 1)
    found = client.get_run(head().run_id)
    assert (found.info.status, found.info.end_time) == ("FINISHED", START + 60_000)
    assert found.data.params == {**record().params, "more": "1"}
    assert tags.items() <= found.data.tags.items()
    assert statuses(send(ended, to=uri)) == [("unchanged", True)]


MORE = {**CURVE, "loss": [*CURVE["loss"], (1, 500, 2.0)], "late": [(0, 0, 1.0)]}


def test_new_points_are_added_once_and_the_latest_stay(uri: str) -> None:
    for points_so_far, status in ((CURVE, "exported"), (MORE, "appended"), (MORE, "unchanged")):
        assert statuses(send(run(points=points_so_far), to=uri)) == [(status, True)]
    client = MlflowClient(uri)
    assert points(client, head().run_id) == {
        key: sorted((step, time, repr(value)) for step, time, value in curve)
        for key, curve in MORE.items()
    }
    latest = client.get_run(head().run_id).data.metrics
    assert latest == {"loss": 1e-300, "eval/acc": 0.875, "late": 1.0}


def by_client(client: Any, experiment: str, curve: Mapping[str, Points]) -> str:
    """The run as mlflow itself writes it; its id."""
    made = client.create_run(experiment, START, dict(TAGS), "nimble-toad-449")
    for key, values in curve.items():
        for step, time, value in values:
            client.log_metric(made.info.run_id, key, value, START + time, step)
    client.set_terminated(made.info.run_id, "FINISHED", START + 60_000)
    return str(made.info.run_id)


def test_a_run_that_mlflow_wrote_is_known_by_its_id(uri: str) -> None:
    """A store that was migrated by other means: equal runs stay untouched, grown ones grow."""
    client: Any = MlflowClient(uri)
    experiment = client.create_experiment("vision")
    run_id = by_client(client, experiment, CURVE)
    before = dump(uri)
    same = record(replace(head(), run_id=run_id), params={})
    assert statuses(send(run(same), to=uri)) == [("unchanged", True)]
    assert dump(uri) == before
    grown = send(run(same, MORE), to=uri)
    assert statuses(grown) == [("appended", True)]
    assert points(client, run_id) == {
        key: sorted((step, time, repr(value)) for step, time, value in curve)
        for key, curve in MORE.items()
    }
    other = send(run(same, {"loss": [(7, 7, 7.0)]}), to=uri)
    assert statuses(other) == [("exported", True)]
    assert [f.code for f in other[0].findings].count("another-history") == 1
    assert other[0].run_id != run_id
    for again in (same, MORE), (same, {"loss": [(7, 7, 7.0)]}):
        assert statuses(send(run(*again), to=uri)) == [("unchanged", True)]
    assert points(client, other[0].run_id) == {"loss": [(7, 7, "7.0")]}
    assert points(client, run_id) == {
        key: sorted((step, time, repr(value)) for step, time, value in curve)
        for key, curve in MORE.items()
    }


def test_what_people_changed_in_the_target_stays(uri: str) -> None:
    live = run(record(head(status="RUNNING", end=None)))
    send(live, to=uri)
    client = MlflowClient(uri)
    client.set_tag(head().run_id, "mlflow.note.content", "Better words.")
    client.set_tag(head().run_id, "stage", "final")
    client.set_terminated(head().run_id, "KILLED", START + 5)
    assert statuses(send(run(record(head(tags={**TAGS, "new": "1"}))), to=uri)) == [
        ("appended", True)
    ]
    found = client.get_run(head().run_id)
    assert found.data.tags["mlflow.note.content"] == "Better words."
    assert (found.data.tags["stage"], found.data.tags["new"]) == ("final", "1")
    assert (found.info.status, found.info.end_time) == ("KILLED", START + 5)


def test_a_run_without_name_times_or_tags(uri: str) -> None:
    bare = record(head(name="", start=None, end=None, tags={}), params={}, user="", entry_point="")
    assert statuses(send(run(bare), to=uri)) == [("exported", True)]
    (row,) = dump(uri)["runs"]
    assert (row[0], row[1]) == (head().run_id, "")
    assert row.count(None) == 3  # start_time, end_time, deleted_time
    (report,) = send(run(bare), to=uri)
    assert (report.status, report.run) == ("unchanged", head().run_id)


def test_what_postgresql_cannot_hold_is_a_counted_loss(postgres: PostgreSQL) -> None:
    uri = postgres.create_database(uuid.uuid4().hex)
    long = record(
        head(tags={**TAGS, "k" * 300: "x", "huge": "y" * 9000}, name="n" * 251),
        params={"p": "v" * 9000, "nul": "a\0b", "q" * 300: "1"},
        artifact_uri="s3://bucket/" + "d" * 200,
        user="u" * 257,
    )
    (report,) = send(run(long, {**CURVE, "m" * 300: [(0, 0, 1.0)]}), to=uri)
    assert (report.status, report.verified) == ("exported", True)
    losses = sorted((found.code, found.where) for found in report.findings if found.fails)
    assert losses == [
        ("artifact-uri-too-long", long.artifact_uri),
        ("nul-replaced", "param 'nul'"),
        ("value-cut", "param 'p'"),
        ("value-cut", "tag 'huge'"),
        ("value-cut", "the run's name"),
        ("value-cut", "the user"),
    ]
    assert sum(found.code == "key-changed" for found in report.findings) == 2
    found = MlflowClient(uri).get_run(head().run_id)
    assert found.data.params["p"] == "v" * 8000
    assert statuses(send(run(), run(record(head(2))), to=uri))[1] == ("exported", True)


def test_sqlite_holds_all_of_it(sqlite: str) -> None:
    params = {"p": "v" * 9000, "nul": "a\0b", "q" * 300: "1", "odd (key)=%": "2"}
    long = record(head(tags={**TAGS, "huge": "y" * 9000}), params=params)
    (report,) = send(run(long), to=sqlite)
    assert (report.status, report.verified) == ("exported", True)
    assert not [found for found in report.findings if found.fails]
    stored = dump(sqlite)
    assert {(key, value) for key, value, _ in stored["params"]} == {*params.items()}
    assert ("huge", "y" * 9000, head().run_id) in stored["tags"]


def test_locations_of_artifacts(sqlite: str, tmp_path: Path) -> None:
    """Remote and living locations stay; a dead one gives way to the run's own folder."""
    (own := tmp_path / "my store" / "artifacts").mkdir(parents=True)
    uris = {
        "s3://bucket/a/artifacts": (None, "s3://bucket/a/artifacts"),
        own.as_uri(): (None, own.as_uri()),
        "file:///C:/Users/a/mlruns/0/a/artifacts": (str(own), own.as_uri()),
        "../mlruns/3/a/artifacts": (str(own), own.as_uri()),
        "file:///gone/artifacts": (None, "file:///gone/artifacts"),
    }
    runs = [
        run(record(head(number), artifact_uri=uri, artifact_folder=folder))
        for number, (uri, (folder, _)) in enumerate(uris.items())
    ]
    reports = send(*runs, to=sqlite)
    client = MlflowClient(sqlite)
    found = [client.get_run(head(number).run_id).info.artifact_uri for number in range(len(uris))]
    assert found == [kept for _, kept in uris.values()]
    codes = [[f.code for f in report.findings].count("artifacts-not-found") for report in reports]
    assert codes == [0, 0, 0, 0, 1]


def test_a_child_is_linked_in_any_order(uri: str) -> None:
    grandchild = head(3, tags={"mlflow.parentRunId": head(2).run_id})
    child = head(2, tags={"mlflow.parentRunId": head(1).run_id})
    reports = send(*(run(record(each)) for each in (grandchild, head(1), child)), to=uri)
    orphans = [[f.code for f in report.findings].count("parent-not-found") for report in reports]
    assert orphans == [1, 0, 0]
    client = MlflowClient(uri)
    for each, parent in ((child, head(1)), (grandchild, child)):
        found = client.get_run(each.run_id)
        assert found.data.tags["mlflow.parentRunId"] == parent.run_id
        assert client.get_run(parent.run_id).info.run_id == parent.run_id
    again = send(*(run(record(each)) for each in (grandchild, head(1), child)), to=uri)
    assert not [f for report in again for f in report.findings if f.code == "parent-not-found"]


def test_a_dry_run_writes_nothing_and_knows_what_follows(uri: str) -> None:
    exporter = MlflowExporter(MlflowOptions(uri))
    child = run(record(head(2, tags={"mlflow.parentRunId": head(1).run_id})))
    plans = [export_run(each, exporter, ExportOptions(dry_run=True)) for each in (run(), child)]
    assert [(plan.plan, plan.new_points) for plan in plans] == [("exported", 7)] * 2
    assert not [f for plan in plans for f in plan.findings if f.code == "parent-not-found"]
    assert not dump(uri) if "sqlite" not in uri else not Path("target.db").exists()
    send(run(), child, to=uri)
    assert verify_run(run(), exporter, ExportOptions()).verified


MODEL = "m-" + "5" * 32
TRAIN = Dataset("train set", "d1", "local", '{"uri": "train.csv"}', '{"cols": 3}', '{"rows": 9}')


def with_model() -> RunRecord:
    """A run with datasets, and with a model which a later run evaluates."""
    metrics = (
        ModelMetric("acc", 0.5, START, 0, head().run_id, "train set", "d1"),
        ModelMetric("acc", 0.75, START + 9, 1, head(2).run_id),
    )
    model = LoggedModel(
        MODEL,
        "iris",
        "READY",
        "sklearn",
        "s3://models/iris",
        created=START,
        updated=START + 1,
        params={"depth": "3"},
        tags={"stage": "new"},
        metrics=metrics,
    )
    return record(
        inputs=(
            Input(TRAIN, {"mlflow.data.context": "training"}),
            Input(Dataset("b", "d2", "x", "y")),
        ),
        links=(ModelLink(MODEL, is_output=True, step=7),),
        models=(model,),
    )


def test_datasets_and_logged_models_are_carried(uri: str) -> None:
    evaluation = record(head(2), inputs=(Input(TRAIN),), links=(ModelLink(MODEL, is_output=False),))
    runs = [run(with_model()), run(evaluation)]
    assert statuses(send(*runs, to=uri)) == [("exported", True)] * 2
    client: Any = MlflowClient(uri)
    found = client.get_run(head().run_id)
    inputs = {each.dataset.name: each for each in found.inputs.dataset_inputs}
    train = inputs["train set"]
    assert (train.dataset.digest, train.dataset.source_type) == ("d1", "local")
    assert (train.dataset.source, train.dataset.schema) == (TRAIN.source, TRAIN.schema)
    assert {tag.key: tag.value for tag in train.tags} == {"mlflow.data.context": "training"}
    assert inputs["b"].dataset.digest == "d2"
    assert [(one.model_id, one.step) for one in found.outputs.model_outputs] == [(MODEL, 7)]
    later = client.get_run(head(2).run_id)
    assert [one.model_id for one in later.inputs.model_inputs] == [MODEL]
    assert len(dump(uri)["datasets"]) == 2
    model = client.get_logged_model(MODEL)
    assert (model.name, model.status, model.model_type) == ("iris", "READY", "sklearn")
    assert (model.creation_timestamp, model.last_updated_timestamp) == (START, START + 1)
    assert (model.source_run_id, model.artifact_location) == (head().run_id, "s3://models/iris")
    assert (model.params, model.tags) == ({"depth": "3"}, {"stage": "new"})
    points_of_model = {(m.key, m.value, m.timestamp, m.step, m.run_id) for m in model.metrics}
    assert points_of_model == {
        ("acc", 0.5, START, 0, head().run_id),
        ("acc", 0.75, START + 9, 1, head(2).run_id),
    }
    before = dump(uri)
    assert statuses(send(*runs, to=uri)) == [("unchanged", True)] * 2
    assert dump(uri) == before


def test_metrics_of_a_model_wait_for_their_run(sqlite: str) -> None:
    """In another process, the run of the model adds them."""
    model, evaluation = run(with_model()), run(record(head(2)))
    for each, status in ((model, "exported"), (evaluation, "exported"), (model, "appended")):
        assert statuses(send(each, to=sqlite)) == [(status, True)]
    assert len(dump(sqlite)["logged_model_metrics"]) == 2
    assert statuses(send(model, evaluation, to=sqlite)) == [("unchanged", True)] * 2


def test_texts_of_datasets_beyond_the_columns_of_postgresql(postgres: PostgreSQL) -> None:
    uri = postgres.create_database(uuid.uuid4().hex)
    long = Input(Dataset("n" * 501, "d" * 37, "t", "s"), {"k": "v" * 501})
    (report,) = send(run(record(inputs=(long,))), to=uri)
    assert (report.status, report.verified) == ("exported", True)
    losses = [found.code for found in report.findings if found.fails]
    assert losses == ["value-cut"] * 3


def test_a_database_without_their_tables_leaves_them_out(sqlite: str) -> None:
    """The stored schema has the tables of runs alone."""
    with sqlite3.connect(sqlite.removeprefix("sqlite:///")) as database:
        database.executescript((DATA / "mlflow_schemas" / "2.22.5.sql").read_text())
    (report,) = send(run(with_model()), to=sqlite)
    assert (report.status, report.verified) == ("exported", True)
    left = {
        found.where: found.count for found in report.findings if found.code == "records-left-out"
    }
    assert left == {
        "datasets": 2,
        "inputs": 3,
        "input_tags": 1,
        "logged_models": 1,
        "logged_model_params": 1,
        "logged_model_tags": 1,
        "logged_model_metrics": 2,
    }
    assert statuses(send(run(with_model()), to=sqlite)) == [("unchanged", True)]
