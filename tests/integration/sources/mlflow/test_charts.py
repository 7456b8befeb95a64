"""MLflow's runs in TensorBoard and W&B: names, nesting, params, tags, notes, steps and times.

The targets are read by TensorBoard's own framing and HParams plug-in, and by wandb's protobuf.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridges
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.formats.mlflow_store.records import Experiment, Metric, RunHead, RunRecord
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.sources.mlflow.runs import run_of
from bridges.stream.model import Run
from tests.integration.exporters.tensorboard.readers import python_provider, session_groups
from tests.integration.exporters.tensorboard.support import read_raw
from tests.integration.exporters.wandb.support import files_of, items_of, of_kind, rows_of
from tests.integration.sources.mlflow.oracle import MlflowClient
from tests.mlflow_stores import unpack_database

START = 1_600_000_000_123  # ms
EXPERIMENT = Experiment("3", "vision: a/b")
PARENT, CHILD = "a" * 32, "b" * 32
TAGS = {"mlflow.user": "ada", "team": "x", "mlflow.note.content": "# Why\n| it | is |"}
Point = tuple[int, float, int]  # ms after the start, value, step
METRICS: dict[str, list[Point]] = {
    "loss": [(10, 0.5, 0), (20, 0.25, 0), (30, 0.125, 0)],  # logged without steps
    "acc": [(40, 0.75, 7), (40, 0.8, 8)],
    "test/f1": [(50, 0.9, 0)],
    "system/cpu": [(11, 5.0, 0), (21, 6.0, 1)],
}


def metric(key: str, points: list[Point]) -> Metric:
    time, value, step = zip(*points, strict=True)
    return Metric(key, np.array(value), START + np.array(time), np.array(step))


def make_run(
    run_id: str = PARENT, name: str = "base", status: str = "FINISHED", **more: Any
) -> Run:
    head = RunHead(
        run_id, EXPERIMENT, "x", name, status, start=START, end=START + 99_000, tags=TAGS
    )
    record = RunRecord(head, {"lr": "0.001", "opt": "adam", "seed": "042"})
    return run_of(record, [metric(*each) for each in METRICS.items()], "mlruns/3/x", **more)


def to_tensorboard(run: Run, folder: Path, **options: Any) -> Any:
    exporter = TensorBoardExporter(TensorBoardOptions(str(folder)))
    return export_run(run, exporter, ExportOptions.of(options))


def to_wandb(run: Run, folder: Path, **options: Any) -> Any:
    return export_run(run, WandbExporter(WandbOptions(wandb_dir=str(folder))), ExportOptions())


def test_tensorboard_has_a_directory_of_each_run_below_its_experiment(tmp_path: Path) -> None:
    to_tensorboard(make_run(has_children=True), tmp_path)
    to_tensorboard(make_run(CHILD, "try 1", parents=["base"]), tmp_path)
    to_tensorboard(make_run("c" * 32), tmp_path)  # another run of that name
    found = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*tfevents*")}
    base = "vision_ a/b/base"
    assert found == {base, f"{base}/try 1", f"{base}-2"}


def test_steps_that_were_never_logged_are_counted_and_others_kept(tmp_path: Path) -> None:
    report = to_tensorboard(make_run(), tmp_path)
    series, _ = read_raw(tmp_path / "vision_ a" / "b" / "base")
    assert [step for step, _ in series["loss"]] == [0, 1, 2]
    assert [step for step, _ in series["acc"]] == [7, 8]
    assert [step for step, _ in series["test/f1"]] == [0]
    assert [step for step, _ in series["system/cpu"]] == [0, 1]
    (note,) = [note for note in report.findings if note.code == "steps-from-order"]
    assert (note.where, note.count) == ("keys 'loss'", 3)
    assert to_tensorboard(make_run(), tmp_path).status == "unchanged"


def test_steps_stay_as_logged_on_request(tmp_path: Path) -> None:
    to_tensorboard(make_run(), tmp_path / "auto")
    report = to_tensorboard(make_run(), tmp_path / "logged", steps="as-logged")
    series, _ = read_raw(tmp_path / "logged" / "vision_ a" / "b" / "base")
    assert [step for step, _ in series["loss"]] == [0, 0, 0]
    assert report.verified
    assert report.key != to_tensorboard(make_run(), tmp_path / "auto").key


def test_the_notes_of_a_run_are_on_the_text_page(tmp_path: Path) -> None:
    to_tensorboard(make_run(), tmp_path)
    _, texts = read_raw(tmp_path / "vision_ a" / "b" / "base")
    assert ("bridges/note/text_summary", 0, TAGS["mlflow.note.content"]) in texts


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("FINISHED", "STATUS_SUCCESS"),
        ("FAILED", "STATUS_FAILURE"),
        ("KILLED", "STATUS_FAILURE"),
        ("RUNNING", "STATUS_UNKNOWN"),  # a session without an end
    ],
)
def test_the_hparams_page_has_params_last_metrics_and_status(
    status: str, shown: str, tmp_path: Path
) -> None:
    to_tensorboard(make_run(status=status), tmp_path)
    (group,) = session_groups(python_provider(tmp_path))
    assert group["hparams"] == {"lr": 0.001, "opt": "adam", "seed": "042"}
    last = {each["name"]["tag"]: each["value"] for each in group["metricValues"]}
    assert {tag: last[tag] for tag in ("loss", "test/f1")} == {
        "loss": 0.125,
        "test/f1": pytest.approx(0.9),
    }
    (session,) = group["sessions"]
    assert session["status"] == shown


def test_wandb_has_the_run_in_the_project_of_its_experiment(tmp_path: Path) -> None:
    to_wandb(make_run(has_children=True), tmp_path)
    (run,) = of_kind(files_of(tmp_path)[0], "run")
    assert (run.project, run.display_name) == ("vision- a-b", "base")
    assert (run.run_group, run.job_type) == ("base", "parent")
    assert run.notes.startswith(TAGS["mlflow.note.content"])
    assert [*run.tags] == []
    config = items_of(run.config.update)
    expected = {"lr": 0.001, "opt": "adam", "seed": "042", "mlflow.user": "ada"}
    expected |= {"mlflow.tags.team": "x", "mlflow.run_id": PARENT}
    assert {key: config[key] for key in expected} == expected
    stamp = run.start_time.seconds * 1000 + run.start_time.nanos // 1_000_000
    assert stamp == START


def test_nested_runs_are_grouped_by_the_outermost_in_wandb(tmp_path: Path) -> None:
    to_wandb(make_run(CHILD, "leaf", parents=["base", "middle"]), tmp_path)
    (run,) = of_kind(files_of(tmp_path)[0], "run")
    assert (run.display_name, run.run_group, run.job_type) == ("leaf", "base", "child")


@pytest.mark.parametrize(("status", "code"), [("FINISHED", 0), ("FAILED", 1), ("KILLED", 255)])
def test_the_exit_code_in_wandb_tells_the_status(status: str, code: int, tmp_path: Path) -> None:
    to_wandb(make_run(status=status), tmp_path)
    (end,) = of_kind(files_of(tmp_path)[0], "exit")
    assert (end.exit_code, end.runtime) == (code, 99)


def test_rows_in_wandb_have_the_points_of_one_step_and_time(tmp_path: Path) -> None:
    to_wandb(make_run(), tmp_path)
    found = [
        (
            row["global_step"],
            round(row["_timestamp"] * 1000) - START,
            {key: row[key] for key in METRICS if key in row},
        )
        for row in rows_of(files_of(tmp_path)[0])
    ]
    assert found == [
        (0, 10, {"loss": 0.5}),
        (0, 11, {"system/cpu": 5.0}),
        (1, 20, {"loss": 0.25}),
        (1, 21, {"system/cpu": 6.0}),
        (2, 30, {"loss": 0.125}),
        (7, 40, {"acc": 0.75}),
        (8, 40, {"acc": 0.8}),
        (0, 50, {"test/f1": 0.9}),
    ]


# --- a store, as mlflow's own client reads it -------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return unpack_database("3.17.2", tmp_path)


def by_client(database: Path) -> dict[str, tuple[str, Any]]:
    """The active runs by id, each with the name of its experiment."""
    client = MlflowClient(f"sqlite:///{database}")
    return {
        run.info.run_id: (experiment.name, run)
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id])
    }


LOGGED_BACKWARDS = "back"  # its latest point is the one of the highest step; in W&B the last one


def in_summary(values: dict[str, float]) -> dict[str, float]:
    return {
        key: value
        for key, value in values.items()
        if abs(value) < 1e300 and key != LOGGED_BACKWARDS
    }


def test_the_hparams_page_of_a_store_has_all_runs_with_params_and_last_metrics(
    tmp_path: Path,
) -> None:
    client, logdir = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"), tmp_path / "runs"
    experiment = client.create_experiment("sweep")
    for number in range(5):
        run = client.create_run(experiment, run_name=f"run {number}").info.run_id
        client.log_param(run, "lr", 10.0**-number)
        client.log_param(run, "opt", "adam" if number % 2 else "sgd")
        for step in range(number + 1):
            client.log_metric(run, "loss", (step + 1) / 8, START + step, step)
        client.log_metric(run, "test/f1", number / 4, START + 99)
        client.set_terminated(run)
    bridges.export(tmp_path / "mlflow.db", to="tensorboard", logdir=logdir)
    found = {
        session["name"]: (
            {key: str(value) for key, value in group["hparams"].items()},
            {each["name"]["tag"]: each["value"] for each in session["metricValues"]},
        )
        for group in session_groups(python_provider(logdir))
        for session in group["sessions"]
    }
    assert found == {
        f"sweep/{run.info.run_name}": (run.data.params, run.data.metrics)
        for _, run in by_client(tmp_path / "mlflow.db").values()
    }


def test_wandb_has_config_summary_and_groups_of_a_store(database: Path, tmp_path: Path) -> None:
    bridges.export(database, to="wandb", options={"wandb_dir": tmp_path / "wandb"})
    runs = by_client(database)
    projects: dict[str, set[str]] = {}
    for file in files_of(tmp_path / "wandb"):
        (written,) = of_kind(file, "run")
        config = items_of(written.config.update)
        experiment, run = runs.pop(config["mlflow.run_id"])
        projects.setdefault(experiment, set()).add(written.project)
        assert written.display_name == run.info.run_name
        assert {str(config[key]) for key in run.data.params} == {*run.data.params.values()}
        summary = items_of(of_kind(file, "summary")[-1].update) if run.data.metrics else {}
        last = {key: summary[key] for key in in_summary(run.data.metrics)}
        assert last == in_summary(run.data.metrics)
        groups = {"child": "parent", "grandchild": "parent", "nested": "fluent run"}
        assert written.run_group == next(
            (group for start, group in groups.items() if run.info.run_name.startswith(start)),
            run.info.run_name if run.info.run_name in groups.values() else "",
        )
    assert not runs
    assert Counter(map(len, projects.values())) == {1: len(projects)}
