"""Runs that came from MLflow, through a server and through mlflow's client: new ids and links."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions, MlflowWriter
from bridges.formats.mlflow_store.records import (
    DELETED,
    Dataset,
    Experiment,
    Input,
    LoggedModel,
    ModelLink,
    ModelMetric,
    RunHead,
)
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.model import Run
from tests.integration.exporters.mlflow.support import MlflowClient, ViewType, failure
from tests.mlflow_records import CURVE, START, TAGS, VISION, head, record, run
from tests.proxy import FaultyProxy

PARENT = "mlflow.parentRunId"


class Store:
    """A server, or a database by mlflow's client, with an experiment of our own."""

    def __init__(self, uri: str, writer: MlflowWriter) -> None:
        self.uri, self.writer = uri, writer
        self.experiment = replace(VISION, name=f"vision {uuid.uuid4().hex}")
        self.client: Any = MlflowClient(uri)
        self.exporter = self.new()

    def new(self) -> MlflowExporter:
        """Another process' exporter."""
        return MlflowExporter(MlflowOptions(self.uri, mlflow_writer=self.writer))

    def head(self, number: int = 1, **changes: object) -> RunHead:
        return head(number, self.experiment, **changes)

    def send(self, *runs: Run) -> list[RunReport]:
        return [export_run(each, self.exporter, ExportOptions()) for each in runs]

    def runs(self, view: ViewType = ViewType.ACTIVE_ONLY) -> dict[str, Any]:
        """The runs of the experiment by key tag."""
        found = self.client.get_experiment_by_name(self.experiment.name)
        runs = self.client.search_runs([found.experiment_id], "", view) if found else []
        assert len({one.data.tags["bridges.key"] for one in runs}) == len(runs)
        return {one.data.tags["bridges.key"]: one for one in runs}


@pytest.fixture(params=["server", "client"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that is written by the API."""
    monkeypatch.chdir(tmp_path)
    if request.param == "server":
        return Store(request.getfixturevalue("mlflow_url"), "auto")
    return Store(f"sqlite:///{tmp_path}/target.db", "client")


def statuses(reports: list[RunReport]) -> list[tuple[str, bool | None]]:
    return [(report.status, report.verified) for report in reports]


def test_a_run_has_all_that_the_api_can_set(store: Store) -> None:
    history = {**TAGS, "mlflow.log-model.history": f'[{{"run_id": "{head().run_id}"}}]'}
    copied = run(record(store.head(tags=history), deleted=3))
    (report,) = store.send(copied)
    assert (report.status, report.verified) == ("exported", True)
    (found,) = store.runs().values()
    info = found.info
    assert info.run_id != head().run_id
    assert (info.run_name, info.status, info.user_id) == ("nimble-toad-449", "FINISHED", "ada")
    assert (info.start_time, info.end_time) == (START, START + 60_000)
    assert found.data.params == record().params
    own = {"bridges.key", "bridges.state"}
    assert {k: v for k, v in found.data.tags.items() if k not in own} == history
    told = {(f.code, f.where, f.count) for f in report.findings}
    columns = "deleted_time, source_name, source_version, entry_point_name"
    assert ("columns-not-set", columns, 4) in told
    assert [(code, count) for code, _, count in told if code == "ids-in-tags"] == [
        ("ids-in-tags", 1)
    ]
    experiment = store.client.get_experiment(info.experiment_id)
    assert {**VISION.tags, "bridges.experiment_id": VISION.id}.items() <= experiment.tags.items()
    for key, curve in CURVE.items():
        history = store.client.get_metric_history(info.run_id, key)
        assert sorted((p.step, p.timestamp - START, repr(p.value)) for p in history) == sorted(
            (step, time, repr(value)) for step, time, value in curve
        )
    assert statuses(store.send(copied)) == [("unchanged", True)]


def test_datasets_and_logged_models_are_carried(store: Store) -> None:
    dataset = Dataset("train set", "d1", "local", '{"uri": "train.csv"}', '{"cols": 3}')
    own, other = store.head().run_id, head(7).run_id
    points = (
        ModelMetric("loss", 2.5, START, 0, own, "train set", "d1"),
        ModelMetric("eval/acc", 0.5, START + 1500, 1, own),
        ModelMetric("loss", 9.0, START, 0, own),  # not a point of the run
        ModelMetric("loss", 1.25, START + 1000, 1, other),  # measured by another run
    )
    params = {f"p{number}": str(number) for number in range(120)}
    model = LoggedModel(
        "m-1", "iris", "READY", "classifier", params=params, tags={"a": "b"}, metrics=points
    )
    links = (ModelLink("m-1", is_output=True, step=3), ModelLink("m-2", is_output=False))
    copied = run(
        record(
            store.head(),
            inputs=(Input(dataset, {"mlflow.data.context": "training"}),),
            models=(model,),
            links=links,
        )
    )
    (report,) = store.send(copied)
    assert (report.status, report.verified) == ("exported", True)
    told = {f.where: (f.code, f.count) for f in report.findings if f.severity != "info"}
    assert told == {
        "metrics of logged models": ("records-left-out", 1),
        "links to logged models": ("model-not-found", 1),
    }
    (found,) = store.runs().values()
    ((linked,), ()) = found.outputs.model_outputs, found.inputs.model_inputs
    stored = store.client.get_logged_model(linked.model_id)
    assert (linked.step, stored.source_run_id) == (3, report.run_id)
    assert (stored.name, stored.model_type, str(stored.status)) == ("iris", "classifier", "READY")
    assert (stored.params, stored.tags) == (params, {"a": "b", "bridges.model_id": "m-1"})
    measured = [(p.key, p.value, p.step, p.run_id, p.dataset_name) for p in stored.metrics]
    assert sorted(measured) == [
        ("eval/acc", 0.5, 1, report.run_id, None),
        ("loss", 2.5, 0, report.run_id, "train set"),
    ]
    (later,) = store.send(
        run(record(store.head(7), models=(LoggedModel("m-2", "rose", "PENDING"),)))
    )
    stored = store.client.get_logged_model(linked.model_id)
    assert (1.25, later.run_id) in {(p.value, p.run_id) for p in stored.metrics}
    (read,) = store.client.get_run(report.run_id).inputs.model_inputs
    assert store.client.get_logged_model(read.model_id).source_run_id == later.run_id
    found = store.client.get_run(report.run_id)
    (known,) = found.inputs.dataset_inputs
    assert (known.dataset.name, known.dataset.source) == ("train set", dataset.source)
    assert [(tag.key, tag.value) for tag in known.tags] == [("mlflow.data.context", "training")]
    store.exporter = store.new()
    assert statuses(store.send(copied)) == [("unchanged", True)]


def test_points_of_logged_models_in_a_file_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file store holds a point of a run twice if it is logged for a model, too."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    store = Store((tmp_path / "mlruns").as_uri(), "client")
    points = (ModelMetric("loss", 2.5, START, 0, store.head().run_id),)
    copied = run(
        record(store.head(), models=(LoggedModel("m-1", "iris", "READY", metrics=points),))
    )
    for status in ("exported", "unchanged"):
        assert statuses(store.send(copied)) == [(status, True)]
        store.exporter = store.new()
    (found,) = store.runs().values()
    history = store.client.get_metric_history(found.info.run_id, "loss")
    assert [point.step for point in history].count(0) == 2
    experiment = store.client.get_experiment_by_name(store.experiment.name).experiment_id
    (stored,) = store.client.search_logged_models([experiment])
    assert [(point.key, point.value) for point in stored.metrics] == [("loss", 2.5)]


def test_nested_runs_are_linked_by_their_new_ids(store: Store) -> None:
    parent, child = store.head(1), store.head(2, tags={PARENT: head(1).run_id})
    grandchild = store.head(3, tags={PARENT: head(2).run_id})
    reports = store.send(*(run(record(each)) for each in (parent, child, grandchild)))
    assert not [f for report in reports for f in report.findings if f.code == "parent-not-found"]
    ids = [report.run_id for report in reports]
    found = [store.client.get_run(run_id).data.tags.get(PARENT) for run_id in ids]
    assert found == [None, ids[0], ids[1]]
    store.exporter = store.new()
    again = store.send(*(run(record(each)) for each in (parent, child, grandchild)))
    assert statuses(again) == [("unchanged", True)] * 3


def test_a_child_before_its_parent_is_linked_when_that_arrives(store: Store) -> None:
    child = run(record(store.head(2, tags={PARENT: head(1).run_id})))
    parent = run(record(store.head(1)))
    first, second = store.send(child, parent)
    assert [f.severity for f in first.findings if f.code == "parent-not-found"] == ["warning"]
    assert store.client.get_run(first.run_id).data.tags[PARENT] == second.run_id


def test_an_orphan_is_linked_by_a_later_export(store: Store) -> None:
    child = run(record(store.head(2, tags={PARENT: head(1).run_id})))
    (orphan,) = store.send(child)
    assert store.client.get_run(orphan.run_id).data.tags[PARENT] == head(1).run_id
    for each in (run(record(store.head(1))), child):
        store.exporter = store.new()
        (report,) = store.send(each)
    assert report.status == "appended"
    (parent,) = store.send(run(record(store.head(1))))
    assert store.client.get_run(orphan.run_id).data.tags[PARENT] == parent.run_id
    assert statuses(store.send(child)) == [("unchanged", True)]


def test_a_run_of_the_store_itself_is_known_by_its_id(store: Store) -> None:
    """A store exported into itself gets no second run; a grown source adds its new points."""
    client, curve = store.client, {"loss": [(1, 1000, 0.5), (3, 3000, 0.25)]}
    experiment = client.create_experiment(store.experiment.name)
    made = client.create_run(experiment, START, dict(TAGS), "nimble-toad-449").info.run_id
    for step, time, value in curve["loss"]:
        client.log_metric(made, "loss", value, START + time, step)
    client.set_terminated(made, "FINISHED", START + 60_000)
    own = record(replace(store.head(), run_id=made), params={})
    (report,) = store.send(run(own, curve))
    assert (report.status, report.verified, report.run_id) == ("unchanged", True, made)
    assert "bridges.key" not in client.get_run(made).data.tags
    curve["loss"].insert(1, (2, 2000, 0.75))
    store.exporter = store.new()
    assert statuses(store.send(run(own, curve))) == [("appended", True)]
    history = client.get_metric_history(made, "loss")
    assert sorted((p.step, p.timestamp - START, p.value) for p in history) == curve["loss"]
    store.exporter = store.new()
    assert statuses(store.send(run(own, curve))) == [("unchanged", True)]
    assert len(store.runs()) == 1


def test_a_link_to_an_unknown_parent_stays(store: Store) -> None:
    """The parent has lost its key, so only the stored link leads to it."""
    child = run(record(store.head(2, tags={PARENT: head(1).run_id})))
    parent, linked = store.send(run(record(store.head(1))), child)
    store.client.delete_tag(parent.run_id, "bridges.key")
    store.exporter = store.new()
    (report,) = store.send(child)
    assert (report.status, report.verified) == ("unchanged", True)
    assert store.client.get_run(linked.run_id).data.tags[PARENT] == parent.run_id


def test_a_run_that_went_on(store: Store) -> None:
    store.send(run(record(store.head(status="RUNNING", end=None))))
    (found,) = store.runs().values()
    assert (found.info.status, found.info.end_time or None) == ("RUNNING", None)
    store.exporter = store.new()
    params = {**record().params, "lr": "0.2", "more": "1"}
    ended = run(record(store.head(tags={**TAGS, "new": "1"}), params=params))
    (report,) = store.send(ended)
    assert (report.status, report.verified) == ("appended", True)
    assert [f.where for f in report.findings if f.code == "params-differ"] == ["param 'lr'"]
    (found,) = store.runs().values()
    assert (found.info.status, found.info.end_time) == ("FINISHED", START + 60_000)
    assert found.data.params == {**record().params, "more": "1"}
    assert found.data.tags["new"] == "1"
    assert statuses(store.send(ended)) == [("unchanged", True)]


def test_new_points_between_known_ones_are_added_once(store: Store) -> None:
    first = {"loss": [(1, 1000, 0.5), (3, 3000, 0.25)], "acc": [(1, 1000, 0.1)]}
    more = {
        "loss": [(1, 1000, 0.5), (2, 2000, 0.375), (3, 3000, 0.25)],
        "acc": [(1, 1000, 0.1), (3, 3000, 0.2)],
    }
    for points, status in ((first, "exported"), (more, "appended"), (more, "unchanged")):
        store.exporter = store.new()
        (report,) = store.send(run(record(store.head()), points))
        assert (report.status, report.verified) == (status, True)
    (found,) = store.runs().values()
    for key, curve in more.items():
        history = store.client.get_metric_history(found.info.run_id, key)
        assert sorted((p.step, p.timestamp - START, p.value) for p in history) == sorted(curve)
    (other,) = store.send(run(record(store.head()), {"loss": [(1, 1000, 9.0)]}))
    assert (other.status, other.verified) == ("exported", True)
    assert [f.severity for f in other.findings if f.code == "another-history"] == ["warning"]
    store.exporter = store.new()
    assert statuses(store.send(run(record(store.head()), more))) == [("unchanged", True)]


def test_deleted_runs_arrive_as_deleted(store: Store) -> None:
    deleted = run(record(store.head(stage=DELETED)))
    assert statuses(store.send(deleted)) == [("exported", True)]
    assert not store.runs()
    (found,) = store.runs(ViewType.DELETED_ONLY).values()
    assert found.info.status == "FINISHED"
    store.exporter = store.new()
    assert statuses(store.send(deleted)) == [("unchanged", True)]
    more = run(record(store.head(stage=DELETED, tags={**TAGS, "new": "1"})))
    assert statuses(store.send(more)) == [("appended", True)]
    (found,) = store.runs(ViewType.DELETED_ONLY).values()
    assert found.data.tags["new"] == "1"


def test_a_run_deleted_in_the_target_stays_deleted(store: Store) -> None:
    (report,) = store.send(run(record(store.head())))
    store.client.delete_run(report.run_id)
    store.exporter = store.new()
    (report,) = store.send(run(record(store.head())))
    assert "deleted in MLflow" in failure(report)
    assert not store.runs()


def test_texts_beyond_the_limits_of_the_api_are_cut_and_counted(store: Store) -> None:
    params = {"p": "v" * 9000, "nul": "a\0b", "odd (key)=%": "2"}
    (report,) = store.send(run(record(store.head(tags={**TAGS, "t": "y" * 8001}), params=params)))
    assert (report.status, report.verified) == ("exported", True)
    losses = sorted((found.code, found.where) for found in report.findings if found.fails)
    assert losses == [
        ("nul-replaced", "param 'nul'"),
        ("value-cut", "param 'p'"),
        ("value-cut", "tag 't'"),
    ]
    (found,) = store.runs().values()
    assert found.data.params == {"p": "v" * 6000, "nul": "a\ufffdb", "odd _key___": "2"}


@pytest.fixture
def proxy(mlflow_url: str) -> Iterator[FaultyProxy]:
    """A proxy that counts requests."""
    with FaultyProxy(mlflow_url) as proxy:
        yield proxy


def test_runs_of_several_experiments_take_few_requests(proxy: FaultyProxy) -> None:
    """An experiment is looked for twice and created once; a run takes no more than any other."""
    store = Store(proxy.url, "auto")
    other = Experiment("7", f"speech {uuid.uuid4().hex}")
    runs = [run(record(store.head(number))) for number in range(3)]
    runs += [run(record(head(number, other))) for number in (3, 4)]

    def requests() -> Counter[str]:
        proxy.clear()
        store.exporter = store.new()
        assert {report.verified for report in store.send(*runs)} == {True}
        return Counter(path.split("?")[0].rpartition("mlflow/")[2] for _, path, _ in proxy.log)

    first, again = requests(), requests()
    assert first["experiments/create"] == 2
    assert first["runs/create"] == first["runs/update"] == first["runs/log-batch"] == 5
    assert (
        first["runs/search"] == 5 + 3
    )  # each for rivals; the first of an experiment is not sought
    assert again["experiments/get-by-name"] == 2
    assert (again["runs/search"], again["runs/get"]) == (5, 5)
    assert not again["runs/log-batch"]
