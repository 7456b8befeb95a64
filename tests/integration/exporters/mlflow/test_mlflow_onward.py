"""Runs that reached a store by mlflow's API, exported onward: the same runs as in a direct export.

The API gives a run another id, so that only its stored key tells whose copy it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from tests.integration.exporters.mlflow.support import MlflowClient, ViewType
from tests.mlflow_stores import unpack_database
from tests.support import DATA, make_run

PARENT = "mlflow.parentRunId"
START = 1_700_000_000_000
TOP, CHILD, GRANDCHILD = (f"{number:032x}" for number in (1, 2, 3))


def write_run(store: Path, run_id: str, parent: str = "", values: Sequence[float] = (2.5,)) -> None:
    """A run of the experiment `vision` in a file store; its name is its id."""
    experiment = store / "1"
    for folder in ("metrics", "params", "tags"):
        (experiment / run_id / folder).mkdir(parents=True, exist_ok=True)
    (experiment / "meta.yaml").write_text("experiment_id: '1'\nname: vision\n")
    lines = [f"run_id: {run_id}", f"run_name: {run_id}", "status: 3"]
    lines += [f"start_time: {START}", f"end_time: {START + 60_000}"]
    (experiment / run_id / "meta.yaml").write_text("\n".join(lines) + "\n")
    points = [f"{START + step} {value} {step}\n" for step, value in enumerate(values)]
    (experiment / run_id / "metrics" / "loss").write_text("".join(points))
    if parent:
        (experiment / run_id / "tags" / PARENT).write_text(parent)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file store with three runs, each nested in the one before."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "mlruns", TOP, values=[2.5, float("inf"), 1.5])
    write_run(tmp_path / "mlruns", CHILD, TOP)
    write_run(tmp_path / "mlruns", GRANDCHILD, CHILD)
    return tmp_path / "mlruns"


def send(source: str | Path, to: str, **options: Any) -> list[str]:
    """Export into a store; the status of each run."""
    report = bridges.export(source, to="mlflow", tracking_uri=to, verify=True, **options)
    assert report.exit_code == 0
    return [run.status for run in report.runs]


def tree(uri: str) -> dict[str, str | None]:
    """The name of each run in a store, with the name of its parent."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("vision")
    runs = client.search_runs([experiment.experiment_id], "", ViewType.ALL)
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len({*names.values()}) == len(runs)
    parents = {run.info.run_name: run.data.tags.get(PARENT) for run in runs}
    return {name: names[parent] if parent else None for name, parent in parents.items()}


NESTED = {TOP: None, CHILD: TOP, GRANDCHILD: CHILD}


@pytest.mark.parametrize("last", ["direct", "client"])
@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_and_its_original_are_one_run(
    store: Path, tmp_path: Path, first: str, last: str
) -> None:
    """Both are exported to one more store, in both orders; links lead to the runs there."""
    copy, target = f"sqlite:///{tmp_path}/copy.db", f"sqlite:///{tmp_path}/target.db"
    assert send(store, copy, mlflow_writer="client") == ["exported"] * 3
    assert tree(copy) == NESTED
    assert TOP not in {run.identity[1] for run in bridges.read(copy)}
    sources: list[str | Path] = [store, copy] if first == "original" else [copy, store]
    writer = {} if last == "direct" else {"mlflow_writer": "client"}
    assert send(sources[0], target, **writer) == ["exported"] * 3
    for source in (*sources[::-1], *sources):
        assert send(source, target, **writer) == ["unchanged"] * 3
        assert tree(target) == NESTED
    write_run(store, CHILD, TOP, [2.5, 0.5])
    assert sorted(send(store, target, **writer)) == ["appended", "unchanged", "unchanged"]
    assert send(copy, target, **writer) == ["unchanged"] * 3
    assert tree(target) == NESTED


def test_a_copy_on_a_server_is_its_original(store: Path, tmp_path: Path, mlflow_url: str) -> None:
    target, server = f"sqlite:///{tmp_path}/target.db", f"mlflow+{mlflow_url}"
    assert send(store, mlflow_url) == ["exported"] * 3
    of_vision: dict[str, Any] = {"select": ["experiment=vision"]}
    assert send(server, target, **of_vision) == ["exported"] * 3
    assert send(store, target) == ["unchanged"] * 3
    assert tree(target) == NESTED
    logdir: dict[str, Any] = {"to": "tensorboard", "logdir": tmp_path / "runs"}
    onward, direct = bridges.export(server, **logdir, **of_vision), bridges.export(store, **logdir)
    assert [run.status for run in (*onward.runs, *direct.runs)] == [
        *["exported"] * 3,
        *["unchanged"] * 3,
    ]


@pytest.mark.parametrize("first", ["original", "copy"])
def test_logged_models_of_a_copy_are_those_of_its_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.chdir(tmp_path)
    store = unpack_database("3.17.2", tmp_path)
    copy, target = f"sqlite:///{tmp_path}/copy.db", f"sqlite:///{tmp_path}/target.db"
    select = ["experiment=model"]
    assert send(store, copy, mlflow_writer="client", select=select) == ["exported"]
    sources: list[str | Path] = [store, copy] if first == "original" else [copy, store]
    found = [send(source, target, select=select) for source in (*sources, *sources)]
    assert found == [["exported"], *[["unchanged"]] * 3]
    client = MlflowClient(target)
    experiment = client.get_experiment_by_name("model").experiment_id
    ((run,), (model,)) = (
        client.search_runs([experiment]),
        client.search_logged_models([experiment]),
    )
    (link,) = run.outputs.model_outputs
    assert (link.model_id, model.source_run_id) == (model.model_id, run.info.run_id)
    assert {(p.key, p.run_id) for p in model.metrics} == {("rmse", run.info.run_id)}


@pytest.mark.parametrize("style", ["copy", "trainer"])
def test_a_parent_from_an_earlier_export_is_found_by_another_process(
    store: Path, tmp_path: Path, style: str
) -> None:
    """The parent has the key of its earlier export, not one of its id."""
    copy, target = f"sqlite:///{tmp_path}/copy.db", f"sqlite:///{tmp_path}/target.db"
    by_client = {"mlflow_writer": "client"}
    send(store, copy, **by_client)
    names = {run.name: run.identity[1] for run in bridges.read(copy)}
    if style == "trainer":  # as if the parent had been a run of the Trainer
        client = MlflowClient(copy)
        state = json.loads(client.get_run(names[TOP]).data.tags["bridges.state"])
        assert state.pop("style") == "tags"
        client.set_tag(names[TOP], "bridges.state", json.dumps(state))
    for name in (TOP, CHILD):
        found = send(copy, target, select=[f"run={name}"], **by_client)
        assert found == ["exported"]
    assert tree(target) == {TOP: None, CHILD: TOP}


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_children_follow_a_parent_with_another_history(
    store: Path, tmp_path: Path, writer: str
) -> None:
    """A parent whose points were rewritten is stored as another run: its children belong to it."""
    target = f"sqlite:///{tmp_path}/target.db"
    options: dict[str, Any] = {"mlflow_writer": writer}
    send(store, target, **options)
    client = MlflowClient(target)
    experiment = client.get_experiment_by_name("vision").experiment_id

    def parents() -> dict[str, str]:
        runs = client.search_runs([experiment])
        return {run.info.run_name: run.data.tags.get(PARENT, "") for run in runs}

    old = parents()[CHILD]
    write_run(store, TOP, values=[9.0])
    write_run(store, f"{4:032x}", TOP)
    report = bridges.export(store, to="mlflow", tracking_uri=target, **options)
    assert report.runs[0].status == "exported"
    new = report.runs[0].run_id
    assert new != old
    assert parents()[CHILD] == parents()[f"{4:032x}"] == new
    for source in (store, store / "1" / CHILD):
        send(source, target, **options)
        assert parents()[CHILD] == new


def test_a_superseded_run_is_not_read(store: Path, tmp_path: Path) -> None:
    """A concurrent export of the same run deleted it."""
    copy = f"sqlite:///{tmp_path}/copy.db"
    send(store, copy, mlflow_writer="client")
    lost = next(run.identity[1] for run in bridges.read(copy) if run.name == GRANDCHILD)
    client = MlflowClient(copy)
    client.set_tag(lost, "bridges.superseded", "true")
    client.delete_run(lost)
    assert [run.name for run in bridges.read(copy, deleted=True)] == [TOP, CHILD]


STATE: str | Path = DATA.parents[1] / "configs" / "example-run" / "trainer_state.json"
LAYOUTS: list[dict[str, Any]] = [
    {"x_axis": "epoch"},
    {"duplicates": "last"},
    {"duplicates": "first"},
    {"naming": "raw"},
    {"callback_version": "4.20"},
    {"x_axis": "epoch", "duplicates": "last"},
]


@pytest.mark.parametrize("target", ["tensorboard", "mlflow"])
@pytest.mark.parametrize("options", LAYOUTS, ids=str)
@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_trainers_run_and_its_copy_are_one_run_with_any_layout(
    tmp_path: Path, target: str, options: dict[str, Any], first: str
) -> None:
    """Stored runs keep the keys that each export gave them; the other export finds them."""
    copy = f"sqlite:///{tmp_path}/copy.db"
    bridges.export(STATE, to="mlflow", tracking_uri=copy)
    sources = [STATE, copy] if first == "original" else [copy, STATE]
    into: dict[str, Any] = {"to": "tensorboard", "logdir": tmp_path / "runs"}
    if target == "mlflow":
        into = {"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path}/other.db"}
    reports = [bridges.export(source, **into, **options).runs[0] for source in (*sources, *sources)]
    assert [report.status for report in reports] == ["exported", *["unchanged"] * 3]
    assert {report.verified for report in reports} == {True}
    assert len({report.location for report in reports}) == 1
    for status in ("exported", "unchanged"):  # without options, it is another run
        plain = bridges.export(copy, **into).runs[0]
        assert (plain.status, plain.verified) == (status, True)
        assert plain.location != reports[0].location


@pytest.mark.parametrize("options", [{"duplicates": "last"}, {"steps": "as-logged"}], ids=str)
@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_of_a_run_of_mlflow_is_the_same_run_with_any_layout(
    store: Path, tmp_path: Path, first: str, options: dict[str, Any]
) -> None:
    loss = store / "1" / TOP / "metrics" / "loss"
    loss.write_text("".join(f"{START + number} {number}.5 0\n" for number in range(3)))
    copy, logdir = f"sqlite:///{tmp_path}/copy.db", tmp_path / "runs"
    send(store, copy)
    sources: list[str | Path] = [store, copy] if first == "original" else [copy, store]
    found = [
        bridges.export(source, to="tensorboard", logdir=logdir, **options)
        for source in (*sources, *sources)
    ]
    statuses = [[run.status for run in report.runs] for report in found]
    assert statuses == [["exported"] * 3, *[["unchanged"] * 3] * 3]


@pytest.mark.parametrize("writer", ["direct", "client"])
def test_a_layout_makes_another_run_of_a_run_of_mlflow(
    store: Path, tmp_path: Path, writer: str
) -> None:
    """Though the first one has its id, in a database."""
    target, options = f"sqlite:///{tmp_path}/target.db", {"mlflow_writer": writer}
    for layout in ({}, {"duplicates": "last"}, {"x_axis": "epoch"}):
        assert send(store, target, **options, **layout) == ["exported"] * 3
    for layout in ({}, {"duplicates": "last"}, {"x_axis": "epoch"}):
        assert send(store, target, **options, **layout) == ["unchanged"] * 3


def test_a_run_stored_with_a_layout_is_read_as_it_is_and_says_so(tmp_path: Path) -> None:
    copy = f"sqlite:///{tmp_path}/copy.db"
    bridges.export(STATE, to="mlflow", tracking_uri=copy, x_axis="epoch", duplicates="last")
    report = bridges.export(copy, to="tensorboard", logdir=tmp_path / "runs")
    (found,) = (f for f in report.runs[0].findings if f.code == "exported-with-options")
    assert found.where == "--x-axis epoch --duplicates last"
    assert report.exit_code == 0


def test_a_trial_exported_onward_with_a_layout_says_that_its_original_is_another_run(
    tmp_path: Path,
) -> None:
    """MLflow does not hold the name of the trial, which is part of its key."""
    copy = f"sqlite:///{tmp_path}/copy.db"
    rows = [{"loss": 1.5, "step": 1}, {"loss": 0.5, "step": 2}]
    trial = make_run(rows, name="t", trial="0", group="search")
    exporter = MlflowExporter(MlflowOptions(copy))
    assert export_run(trial, exporter, ExportOptions()).verified
    into: dict[str, Any] = {"to": "tensorboard", "logdir": tmp_path / "runs"}
    plain = bridges.export(copy, **into).runs
    onward = bridges.export(copy, **into, x_axis="epoch", source="mlflow").runs
    told = [[f.code for f in run.findings].count("original-unknown") for run in (*plain, *onward)]
    assert (sum(told[: len(plain)]), sum(told[len(plain) :])) == (0, 1)


@pytest.mark.parametrize("kind", ["copy", "trainer"])
def test_a_run_deleted_in_the_target_is_not_written_again(
    store: Path, tmp_path: Path, kind: str
) -> None:
    """By an export and by a migration, which has a receipt of it; all other runs are known."""
    source, target = (store if kind == "copy" else STATE), f"sqlite:///{tmp_path}/target.db"
    config = {"sources": [str(source)], "targets": [{"to": "mlflow", "tracking_uri": target}]}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    assert bridges.migrate(tmp_path / "config.yaml").exit_code == 0
    first = bridges.export(source, to="mlflow", tracking_uri=target).runs[0]
    MlflowClient(target).delete_run(first.run_id)
    for _ in range(2):
        migrated = bridges.migrate(tmp_path / "config.yaml")
        exported = bridges.export(source, to="mlflow", tracking_uri=target)
        for report in (migrated, exported):
            assert report.exit_code == 1
            (failed,) = (run for run in report.runs if run.status == "failed")
            message = failed.findings[-1].message
            assert f"then deleted in MLflow ({first.run_id}). Restore it in MLflow" in message
    again = bridges.export(source, to="mlflow", tracking_uri=target, options={"force": True})
    assert again.exit_code == 0
    MlflowClient(target).restore_run(first.run_id)
    assert bridges.export(source, to="mlflow", tracking_uri=target).exit_code == 0
