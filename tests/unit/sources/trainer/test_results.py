"""Results files beside a state: which rows they add, to which run, and how targets keep them."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.exporters.base import Exporter
from bridges.exporters.memory import MemoryExporter
from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.model import RowKind, Run
from tests.support import DATA, codes, state

FAULTS = DATA / "faults"
TRAIN = {"loss": 1.0, "epoch": 1.0, "step": 3}
SUMMARY = {"train_loss": 1.0, "train_runtime": 9.0, "total_flos": 1.0, "epoch": 1.0, "step": 3}
EVAL = {"eval_loss": 0.5, "eval_runtime": 2.0, "epoch": 1.0}


def put(folder: Path, results: dict[str, dict[str, Any]], rows: Any = (TRAIN, SUMMARY)) -> Path:
    """A directory with a finished run and results files."""
    folder.mkdir(parents=True, exist_ok=True)
    text = state(rows, global_step=3, max_steps=3)
    (folder / "trainer_state.json").write_bytes(text)
    for split, metrics in results.items():
        (folder / f"{split}_results.json").write_text(json.dumps(metrics))
    return folder


def read(folder: Path) -> list[Run]:
    return list(RunDirectorySource().read(str(folder), ReadOptions()))


def added(run: Run) -> list[dict[str, Any]]:
    return [[*run.stream][row] for row in run.added]


def counts(findings: Any) -> dict[str, int]:
    return {finding.code: finding.count for finding in findings}


def test_an_evaluation_after_the_state_was_saved_is_the_last_row() -> None:
    (run,) = read(FAULTS / "glue")
    assert added(run) == [
        {
            "epoch": 0.2,
            "eval_accuracy": 0.8725,
            "eval_loss": 0.4125,
            "eval_runtime": 2.5,
            "eval_samples_per_second": 348.8,
            "step": 20,
        }
    ]
    assert run.stream.kind[-1] == RowKind.EVAL
    assert counts(run.findings)["results-keys-left-out"] == 2  # the samples, which scripts add


def test_results_have_the_order_and_the_times_of_event_files() -> None:
    """By the names of their files, `final` would come before `test_ood`."""
    (run,) = read(DATA / "live" / "results_after_state" / "out")
    names = [next(key for key in row if key.endswith("_runtime")) for row in added(run)]
    assert [name.removesuffix("_runtime") for name in names] == [
        *("eval", "eval_mm", "test_ood", "final", "predict")
    ]
    (known,) = [one for one in run.evidence if one.source == "events"]
    assert known.rows.tolist() == [*range(10)]  # all but the prediction
    assert (np.diff(known.time) > 0).all()


CALLS: dict[str, dict[str, Any]] = {
    "predict": {"predict_loss": 0.1, "predict_runtime": 3.0},
    "test": {"test_loss": 0.2, "test_runtime": 4.0, "epoch": 1.0},
    "eval": {"eval_loss": 0.3, "eval_runtime": 5.0, "epoch": 1.0},
}
BY_NAME = ["eval", "test", "predict"]


@pytest.mark.parametrize(
    ("saved", "order"),
    [
        ({"predict": 10, "test": 15, "eval": 21, "all": 21.01}, ["predict", "test", "eval"]),
        ({"test": 10, "predict": 15, "eval": 21, "all": 21.01}, ["test", "predict", "eval"]),
        ({"predict": 10, "test": 12, "eval": 21, "all": 21.01}, BY_NAME),  # a test of 4 seconds
        ({"predict": 10, "test": 15, "eval": 21, "all": 9}, BY_NAME),  # a download by name
        ({"predict": 10, "test": 10, "eval": 10, "all": 10}, BY_NAME),  # a copy
        ({"predict": 10, "test": 15, "eval": 21}, BY_NAME),  # nothing proves these times
    ],
)
def test_results_have_the_order_in_which_original_files_were_saved(
    saved: dict[str, float], order: list[str], tmp_path: Path
) -> None:
    merged = {key: value for call in CALLS.values() for key, value in call.items()}
    put(tmp_path, {**CALLS, "all": merged} if "all" in saved else CALLS)
    for split, seconds in saved.items():
        os.utime(tmp_path / f"{split}_results.json", (1_700_000_000 + seconds,) * 2)
    (run,) = read(tmp_path)
    assert [key for row in added(run) for key in BY_NAME if f"{key}_loss" in row] == order


def test_predictions_keep_their_place_between_rows_of_event_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(DATA / "live" / "results_after_state" / "out", out)
    predictions = json.loads((out / "predict_results.json").read_text())
    (out / "predict_results.json").write_text(json.dumps({**predictions, "predict_runtime": 9.0}))
    live = ["eval", "eval_mm", "predict", "test_ood", "final"]
    order = ["train", "test", *live, "all"]
    for place, split in enumerate(order):
        seconds = 1_700_000_000 + 20 * min(place, len(order) - 2)
        os.utime(out / f"{split}_results.json", (seconds, seconds))
    (run,) = read(out)
    names = [next(key for key in row if key.endswith("_runtime")) for row in added(run)]
    assert [name.removesuffix("_runtime") for name in names] == live


def test_each_call_in_a_file_is_a_row_and_prefixes_do_not_swallow_each_other(
    tmp_path: Path,
) -> None:
    test = {"test_loss": 0.1, "test_runtime": 1.0}
    ood = {"test_ood_loss": 0.2, "test_ood_runtime": 1.5}
    (run,) = read(put(tmp_path, {"test": {**test, **ood, "epoch": 1.0}}))
    assert added(run) == [
        {**test, "epoch": 1.0, "step": 3},
        {**ood, "epoch": 1.0, "step": 3},
    ]


def test_what_the_history_holds_is_not_added_again(tmp_path: Path) -> None:
    test = {"test_loss": 0.1, "test_runtime": 1.0, "epoch": 1.0}
    rows = [TRAIN, {**EVAL, "step": 3}, SUMMARY, {**test, "step": 3}]
    new = {"test_ood_loss": 0.2, "test_ood_runtime": 1.5, "epoch": 1.0}
    summary = {key: SUMMARY[key] for key in ("train_loss", "train_runtime", "epoch")}
    merged = {**EVAL, **test, **new, **summary}
    results = {"eval": EVAL, "test": test, "test_ood": new, "train": summary, "all": merged}
    (run,) = read(put(tmp_path, results, rows))
    assert added(run) == [{**new, "step": 3}]


@pytest.mark.parametrize(
    "late", [{"eval_perplexity": 1.65}, {"eval_mem_cpu_alloc_delta": 4096}, {"eval_samples": 20}]
)
def test_metrics_that_were_added_to_a_call_do_not_double_its_row(
    late: dict[str, Any], tmp_path: Path
) -> None:
    """Scripts add them to the file, and the Trainer its memory, after the call was logged."""
    (run,) = read(put(tmp_path, {"eval": {**EVAL, **late}}, [TRAIN, {**EVAL, "step": 3}, SUMMARY]))
    assert added(run) == []
    assert counts(run.findings)["results-keys-left-out"] == 1


def test_the_memory_of_an_evaluation_is_logged_by_no_callback(tmp_path: Path) -> None:
    memory = {"eval_mem_cpu_peaked_delta": 4096}
    (run,) = read(put(tmp_path, {"eval": {**EVAL, **memory}}))
    assert added(run) == [{**EVAL, "step": 3}]
    assert counts(run.findings)["results-keys-left-out"] == 1


def test_the_memory_of_a_training_is_logged_with_its_summary(tmp_path: Path) -> None:
    summary = {"train_loss": 1.0, "train_runtime": 9.0, "train_mem_cpu_alloc_delta": 4096}
    (run,) = read(put(tmp_path, {"train": {**summary, "train_samples": 9}}, [TRAIN]))
    assert added(run) == [{**summary, "step": 3}]


def test_an_evaluation_that_was_made_again_is_another_row(tmp_path: Path) -> None:
    """Live, both calls were logged; only their runtimes differ."""
    again = {**EVAL, "eval_runtime": 2.5}
    (run,) = read(put(tmp_path, {"eval": again}, [TRAIN, {**EVAL, "step": 3}, SUMMARY]))
    assert added(run) == [{**again, "step": 3}]


def test_predictions_have_no_epoch_and_are_named(tmp_path: Path) -> None:
    predict = {"predict_loss": 0.1, "predict_runtime": 1.0}
    (run,) = read(put(tmp_path, {"predict": predict, "all": {**predict, "epoch": 1.0}}))
    assert added(run) == [{**predict, "step": 3}]
    assert counts(run.findings)["predictions-kept"] == 1


def test_the_file_of_all_results_stands_for_files_that_are_gone(tmp_path: Path) -> None:
    merged = {"eval_loss": 0.5, "train_loss": 1.0, "train_runtime": 9.0, "epoch": 1.0}
    (run,) = read(put(tmp_path, {"all": merged}, [TRAIN]))
    summary, evaluation = added(run)
    assert summary == {"train_loss": 1.0, "train_runtime": 9.0, "epoch": 1.0, "step": 3}
    assert evaluation == {"eval_loss": 0.5, "epoch": 1.0, "step": 3}
    assert run.status == "finished"


def test_results_of_a_run_that_goes_on_are_kept(tmp_path: Path) -> None:
    put(tmp_path, {"eval": EVAL})
    (tmp_path / "trainer_state.json").write_bytes(state([TRAIN], global_step=3, max_steps=9))
    (run,) = read(tmp_path)
    assert added(run) == [{**EVAL, "step": 3}]
    growing = ReadOptions(growing=True)
    (run,) = RunDirectorySource().read(str(tmp_path), growing)
    assert added(run) == []


def test_results_of_one_of_several_runs_are_a_counted_loss(tmp_path: Path) -> None:
    for number, loss in ((1, 1.0), (2, 2.0)):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        text = state([{**TRAIN, "loss": loss}], global_step=number)
        (folder / "trainer_state.json").write_bytes(text)
    (tmp_path / "eval_results.json").write_text(json.dumps(EVAL))
    runs = read(tmp_path)
    assert [added(run) for run in runs] == [[], []]
    assert [codes(run).count("results-left-out") for run in runs] == [1, 0]
    put(tmp_path, {}, [{**TRAIN, "loss": 1.0}, SUMMARY])  # the state beside the results owns them
    assert {len(run.history): len(added(run)) for run in read(tmp_path)} == {2: 1, 1: 0}


def test_what_cannot_be_read_is_told_and_the_rest_is_added(tmp_path: Path) -> None:
    put(tmp_path, {"test": {"test_loss": 0.5, "epoch": 1.0}})
    (tmp_path / "eval_results.json").write_text("[]")
    (tmp_path / "train_results.json").write_text('{"a":' * 200_000)
    (run,) = read(tmp_path)
    assert codes(run).count("beside-unreadable") == 2
    assert added(run) == [{"test_loss": 0.5, "epoch": 1.0, "step": 3}]


# how a target keeps them


def export(folder: Path, target: Exporter, status: str | None = None) -> RunReport:
    (run,) = read(folder)
    report = export_run(run, target, ExportOptions())
    assert report.verified, report.findings
    assert status in (None, report.status)
    assert verify_run(run, target, ExportOptions()).status == "unchanged"
    return report


def points(target: MemoryExporter) -> Counter[tuple[str, int, float]]:
    """Every point of the only run."""
    (stored,) = target.runs.values()
    recorded = target.read_back(stored.run)
    return Counter(
        (tag, step, value)
        for tag, found in recorded.points.items()
        for step, value in zip(found.step.tolist(), found.value.tolist(), strict=True)
    )


def test_new_and_changed_results_are_appended(tmp_path: Path) -> None:
    target = MemoryExporter()
    _new_then_changed(target, tmp_path)
    assert points(target)["eval_loss", 3, 0.5] == points(target)["eval_loss", 3, 0.25] == 1


@pytest.mark.parametrize("target", ["tensorboard", "mlflow", "client", "wandb"])
def test_every_target_takes_new_and_changed_results(target: str, tmp_path: Path) -> None:
    _new_then_changed(_opened(target, tmp_path), tmp_path / "out")


def _new_then_changed(target: Exporter, folder: Path) -> None:
    """Export a run without results, with results, with changed results, and without again."""
    places = {
        export(put(folder, {}), target, "exported").location,
        export(put(folder, {"eval": EVAL}), target, "appended").location,
        export(folder, target, "unchanged").location,
        export(put(folder, {"eval": {**EVAL, "eval_loss": 0.25}}), target, "appended").location,
        export(folder, target, "unchanged").location,
    }
    (folder / "eval_results.json").unlink()
    places.add(export(folder, target, "unchanged").location)
    assert len(places) == 1


def test_a_training_that_goes_on_after_results_is_appended(tmp_path: Path) -> None:
    target = MemoryExporter()
    export(put(tmp_path, {"eval": EVAL}), target)
    more = [TRAIN, SUMMARY, {**TRAIN, "loss": 0.5, "step": 4}]
    put(tmp_path, {"test": {"test_loss": 0.75, "epoch": 2.0}}, more)
    report = export(tmp_path, target)
    assert (report.status, report.rows) == ("appended", 5)
    assert export(tmp_path, target).status == "unchanged"
    (stored,) = target.runs.values()
    assert [row.row for row in stored.run.state.added] == [2, 4]
    assert points(target)["loss", 4, 0.5] == points(target)["eval_loss", 3, 0.5] == 1


def test_times_stay_when_rows_come_between(tmp_path: Path) -> None:
    target = MemoryExporter()
    export(put(tmp_path, {"eval": EVAL}), target)
    (stored,) = target.runs.values()
    before = target.read_back(stored.run).points["loss"].time
    export(put(tmp_path, {}, [TRAIN, SUMMARY, {**TRAIN, "step": 4}]), target)
    after = target.read_back(stored.run).points["loss"].time
    assert np.array_equal(before, after[: len(before)])
    assert (np.diff(after) > 0).all()


@pytest.mark.parametrize("name", ["glue", "tie"])
def test_faults_of_results_are_exported_once(name: str, tmp_path: Path) -> None:
    shutil.copytree(FAULTS / name, tmp_path / name)
    target = MemoryExporter()
    assert export(tmp_path / name, target).status == "exported"
    assert export(tmp_path / name, target).status == "unchanged"


@pytest.mark.parametrize("results", [{"eval": EVAL}, {"eval": {**EVAL, "eval_runtime": 3.0}}])
def test_a_history_that_went_back_beside_its_results_is_the_run_that_is_there(
    results: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    target = MemoryExporter()
    rows = [{**TRAIN, "loss": 1.0 / step, "step": step} for step in (1, 2, 3)]
    export(put(tmp_path, {"eval": EVAL}, rows), target)
    report = export(put(tmp_path, results, rows[:2]), target)
    assert report.status == "unchanged"
    lost = [finding.count for finding in report.findings if finding.code == "results-not-added"]
    assert lost == ([] if results["eval"] == EVAL else [1])
    assert len(target.runs) == 1


@pytest.mark.parametrize("target", ["memory", "tensorboard", "mlflow", "client", "wandb", "synced"])
def test_evaluations_become_rows_of_the_history_without_moving(target: str, tmp_path: Path) -> None:
    """Nothing is rewritten, so that targets which only take new rows do so, too."""
    exporter, call = _opened(target, tmp_path), {**EVAL, "eval_loss": 0.3, "epoch": 0.8}
    rows = [TRAIN, {**call, "step": 3}, {**TRAIN, "loss": 0.1, "step": 4}]
    status = []
    for saved in (rows[:1], rows[:2], rows, rows):
        (run,) = read(put(tmp_path / "out", {"eval": call}, saved))
        report = export_run(run, exporter, ExportOptions())
        assert report.verified, report.findings
        status.append((report.status, report.rows))
        for file in (tmp_path / "wandb").rglob("*.wandb") if target == "synced" else ():
            Path(f"{file}.synced").touch()
    assert status == [("exported", 2), ("unchanged", 2), ("appended", 3), ("unchanged", 3)]


def _opened(target: str, folder: Path) -> Exporter:
    database = f"sqlite:///{folder}/mlflow.db"
    exporters: dict[str, Callable[[], Exporter]] = {
        "memory": MemoryExporter,
        "tensorboard": lambda: TensorBoardExporter(TensorBoardOptions(str(folder / "tb"))),
        "mlflow": lambda: MlflowExporter(MlflowOptions(database)),
        "client": lambda: MlflowExporter(MlflowOptions(database, mlflow_writer="client")),
        "wandb": lambda: WandbExporter(WandbOptions(wandb_dir=str(folder))),
        "synced": lambda: WandbExporter(WandbOptions(wandb_dir=str(folder))),
    }
    return exporters[target]()


def test_results_that_the_state_holds_later_are_there_once(tmp_path: Path) -> None:
    """Their values are no float32 numbers, as those of event files are."""
    target = MemoryExporter()
    first, call = ({**EVAL, "eval_loss": loss, "epoch": 0.8} for loss in (0.7, 0.3))
    export(put(tmp_path, {"eval": first}, [TRAIN]), target)
    export(put(tmp_path, {"eval": call}, [TRAIN]), target)
    saved = [TRAIN, {**call, "step": 3}, {**TRAIN, "loss": 0.1, "step": 4}]
    assert export(put(tmp_path, {"eval": call}, saved), target).status == "appended"
    assert points(target)["eval_loss", 3, 0.3] == 1
    assert points(target)["eval_loss", 3, 0.7] == 1  # which only the target holds


def test_results_are_there_once_whose_step_and_epoch_the_state_tells_later(tmp_path: Path) -> None:
    """The last save was made some steps before the evaluation, and the file of all results has the
    epoch of another one.
    """
    target, call = MemoryExporter(), {**EVAL, "eval_loss": 0.3}
    export(put(tmp_path, {"all": {**call, "epoch": 9.0}}, [TRAIN]), target)
    assert points(target)["eval_loss", 3, 0.3] == 1
    saved = [TRAIN, {**TRAIN, "loss": 0.1, "step": 4}, {**call, "step": 4}]
    assert export(put(tmp_path, {}, saved), target).status == "appended"
    assert [point for point in points(target) if point[0] == "eval_loss"] == [("eval_loss", 4, 0.3)]
    assert export(tmp_path, target).status == "unchanged"


def test_results_that_a_longer_history_in_the_target_holds_are_no_loss(tmp_path: Path) -> None:
    target, rows = MemoryExporter(), [TRAIN, {**EVAL, "step": 3}]
    export(put(tmp_path, {"eval": EVAL}, rows), target)
    report = export(put(tmp_path, {"eval": EVAL}, rows[:1]), target)
    assert (report.status, report.failed) == ("unchanged", False)


def test_a_history_goes_on_in_the_run_with_its_settings(tmp_path: Path) -> None:
    """Another one with equal rows has more rows, as results were added to it."""
    target, rows = MemoryExporter(), [TRAIN, {**TRAIN, "loss": 0.1, "step": 4}]
    for seed, results in ((1, {}), (2, {"eval": EVAL})):
        (tmp_path / "args.json").write_text(json.dumps({"seed": seed}))
        assert export(put(tmp_path, results, rows[:1]), target).status == "exported"
    (tmp_path / "args.json").write_text(json.dumps({"seed": 1}))
    (tmp_path / "eval_results.json").unlink()
    assert export(put(tmp_path, {}, rows), target).status == "appended"
    assert [len(run.run.state.added) for run in target.runs.values()] == [0, 1]
    assert [run.run.state.rows for run in target.runs.values()] == [2, 2]
