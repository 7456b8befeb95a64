"""A run that was exported from a log first is the same run when a state holds its rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bridges
from bridges.exporters.base import Exporter, as_stored
from bridges.exporters.factory import make_exporters
from bridges.exporters.memory import MemoryExporter
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.exporter import WandbExporter
from bridges.exporters.wandb.options import WandbOptions
from bridges.pipeline.compare import expected_points
from bridges.pipeline.continuing import continued
from bridges.pipeline.export_run import export_run, verify_run
from bridges.pipeline.match_existing import match_existing
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.target import Target
from bridges.report import RunReport
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.logged import checked, lines_of, ranges_of
from bridges.stream.model import Run
from tests.unit.sources.tuning_logs.test_further_rows import (
    FAULTS,
    ROWS,
    TOOLS,
    factory,
    put,
    save,
    swift,
)

SUMMARY = {"train_runtime": 9.0, "total_flos": 1.0, "train_loss": 0.5, "epoch": 1.0, "step": 90}


def exporter_of(target: str, place: Path) -> Exporter:
    if target == "memory":
        return MemoryExporter()
    if target == "tensorboard":
        return TensorBoardExporter(TensorBoardOptions(logdir=str(place / "tb")))
    if target == "wandb":
        return WandbExporter(WandbOptions(wandb_dir=str(place / "wb")))
    if target == "trackio":
        return make_exporters([target], {"trackio_dir": str(place / "trackio")})[0]
    if target in ("parquet", "csv"):
        return make_exporters([target], {"out": str(place / "out"), "wide": True})[0]
    options = {"tracking_uri": f"sqlite:///{place}/m.db", "mlflow_writer": target[7:]}
    return make_exporters(["mlflow"], options)[0]


TARGETS = ("memory", "tensorboard", "mlflow-direct", "wandb", "parquet", "csv", "trackio")


def export(place: Path, exporter: Exporter, **read: Any) -> RunReport:
    """Export the only run of a place, and verify it by itself."""
    options = ExportOptions(read=ReadOptions(**read))
    (run,) = RunDirectorySource().read(str(place), options.read)
    report = export_run(run, exporter, options)
    assert report.verified, report.findings
    again = export_run(run, exporter, options)
    assert (again.status, again.location) == ("unchanged", report.location)
    assert verify_run(run, exporter, options).verified
    return report


def points_of(place: Path, exporter: Exporter, tag: str) -> list[tuple[int, float]]:
    """The points of a tag as read back, after the run was found anew."""
    (run,) = bridges.read(place)
    target = Target(exporter, ExportOptions().layout)
    _, match = match_existing(run, target, is_written=False)
    assert match.known is not None
    there = exporter.read_back(match.known.existing).points
    if not match.is_longer_there:
        assert there.keys() == expected_points(continued(match, target), exporter).keys()
    found = there.get(tag) or there[f"train/{tag}"]
    return list(zip(found.step.tolist(), found.value.tolist(), strict=True))


@pytest.mark.parametrize("target", TARGETS)
def test_a_log_and_then_its_state_are_one_run(target: str, tmp_path: Path) -> None:
    exporter, place = exporter_of(target, tmp_path), tmp_path / "run"
    shutil.copytree(FAULTS / "lf_live" / "1", place)
    first = export(place, exporter)
    assert (first.status, first.rows) == ("exported", 4)
    shutil.copytree(FAULTS / "lf_live" / "2", place, dirs_exist_ok=True)
    second = export(place, exporter)
    assert (second.status, second.rows, second.location) == ("appended", 7, first.location)
    losses = points_of(place, exporter, "loss")
    assert [step for step, _ in losses] == [10, 20, 30, 40, 50, 60, 70]


@pytest.mark.parametrize("target", TARGETS)
def test_exact_rows_replace_those_of_the_log(target: str, tmp_path: Path) -> None:
    exporter, place = exporter_of(target, tmp_path), tmp_path / "run"
    put(place, "logging.jsonl", swift(ROWS[:4]))
    export(place, exporter)
    put(place, "logging.jsonl", swift(ROWS))
    save(place / "checkpoint-80", ROWS[:8], max_steps=100)
    report = export(place, exporter)
    assert [f.count for f in report.findings if f.code == "rows-from-log-replaced"] == [4]
    losses = [value for _, value in points_of(place, exporter, "loss")]
    exact = as_stored(exporter, np.array([row["loss"] for row in ROWS[:8]])).tolist()
    assert losses == [*exact, *as_stored(exporter, np.array([round(ROWS[8]["loss"], 8)])).tolist()]
    save(place, [*ROWS, SUMMARY], max_steps=100)
    assert export(place, exporter).status == "appended"
    norms = [value for _, value in points_of(place, exporter, "grad_norm")]
    assert norms == as_stored(exporter, np.array([row["grad_norm"] for row in ROWS])).tolist()


@pytest.mark.parametrize("can_replace", [True, False])
def test_results_behind_rows_of_a_log_are_kept_once(
    can_replace: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryExporter, "can_replace", lambda *_: can_replace)
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS, total=90))
    (place / "eval_results.json").write_text('{"epoch": 1.0, "eval_accuracy": 0.5}')
    assert export(place, exporter).rows == 10
    save(place, [*ROWS, SUMMARY], max_steps=90)
    report = export(place, exporter)
    assert (report.rows, report.status, len(exporter.runs)) == (11, "appended", 1)
    assert points_of(place, exporter, "eval_accuracy") == [(90, 0.5)]
    (stored,) = exporter.runs.values()
    assert ("grad_norm" in exporter.read_back(stored.run).points) is can_replace


def test_a_target_that_cannot_be_rewritten_keeps_the_rows_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryExporter, "can_replace", lambda *_: False)
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "logging.jsonl", swift(ROWS[:4]))
    export(place, exporter)
    save(place, ROWS, max_steps=100)
    report = export(place, exporter)
    assert [f.count for f in report.findings if f.code == "rows-kept-from-log"] == [4]
    losses = [value for _, value in points_of(place, exporter, "loss")]
    assert losses[:4] == [round(row["loss"], 8) for row in ROWS[:4]]
    assert losses[4:] == [row["loss"] for row in ROWS[4:]]


def test_a_run_that_was_changed_by_hand_is_not_replaced(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:4]))
    export(place, exporter)
    (stored,) = exporter.runs.values()
    ((_, layout),) = stored.layouts
    changed = [replace(series, values=series.values * 2) for series in layout.stream.series]
    layout = replace(layout, stream=replace(layout.stream, series=tuple(changed)))
    stored.layouts = [(0, layout)]
    save(place, ROWS, max_steps=100)
    (run,) = bridges.read(place)
    report = export_run(run, exporter, ExportOptions())
    assert report.status == "failed"
    assert "rows-from-log-replaced" not in [f.code for f in report.findings]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", TOOLS)
def test_a_run_that_is_exported_all_the_time_is_one(name: str, target: str, tmp_path: Path) -> None:
    exporter, place, tool = exporter_of(target, tmp_path), tmp_path / "run", TOOLS[name]
    put(place, name, tool(ROWS[:3]))
    locations = {export(place, exporter).location}
    put(place, name, tool(ROWS[:5]))
    save(place / "checkpoint-40", ROWS[:4], max_steps=90)
    locations.add(export(place, exporter).location)  # rows of the log lie on both sides
    put(place, name, tool(ROWS))
    save(place / "checkpoint-70", ROWS[:7], max_steps=90)
    locations.add(export(place, exporter).location)
    save(place, [*ROWS, SUMMARY], max_steps=90)
    locations.add(export(place, exporter).location)
    assert len(locations) == 1
    losses = points_of(place, exporter, "loss")
    assert [step for step, _ in losses] == [row["step"] for row in ROWS]
    expected = [row["loss"] for row in ROWS]
    assert [value for _, value in losses] == pytest.approx(expected, abs=1e-6)


def test_a_growing_run_gets_each_row_once(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:3]))
    export(place, exporter, growing=True)
    put(place, "trainer_log.jsonl", factory(ROWS[:5]))
    save(place / "checkpoint-40", ROWS[:4], max_steps=90)
    assert export(place, exporter, growing=True).rows == 4
    save(place / "checkpoint-90", ROWS, max_steps=90)
    put(place, "trainer_log.jsonl", factory(ROWS))
    assert export(place, exporter, growing=True).rows == 9
    assert len(exporter.runs) == 1


def test_a_log_that_is_ahead_of_the_state_stays_the_run(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:7]))
    export(place, exporter, growing=True)
    save(place / "checkpoint-40", ROWS[:4], max_steps=100)
    report = export(place, exporter, growing=True)
    assert (report.rows, report.status) == (7, "appended")  # the exact rows of the state
    assert [step for step, _ in points_of(place, exporter, "grad_norm")] == [10, 20, 30, 40]
    assert len(exporter.runs) == 1


def test_a_resume_goes_on_behind_the_rows_of_the_lost_attempt(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:8]))
    save(place / "checkpoint-60", ROWS[:6], max_steps=90)
    assert export(place, exporter).rows == 8
    again = [{**row, "loss": row["loss"] + 0.5} for row in ROWS[6:]]
    put(place, "trainer_log.jsonl", factory([*ROWS[:8], *again]))
    save(place, [*ROWS[:6], *again, SUMMARY], max_steps=90)
    report = export(place, exporter)
    assert (report.status, report.rows) == ("appended", 12)
    assert len(exporter.runs) == 1
    steps = [step for step, _ in points_of(place, exporter, "loss")]
    assert steps == [10, 20, 30, 40, 50, 60, 70, 80, 70, 80, 90]


def test_a_history_in_the_last_line_is_the_run_of_the_lines(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "logging.jsonl", swift(ROWS[:5]))
    export(place, exporter)
    history = [*ROWS, SUMMARY]
    outcome = {"last_model_checkpoint": "x", "log_history": history}
    put(place, "logging.jsonl", [*swift(history), outcome])
    assert export(place, exporter).status == "appended"
    assert len(exporter.runs) == 1
    assert [step for step, _ in points_of(place, exporter, "train_loss")] == [90]


def test_the_run_of_a_log_that_an_earlier_version_wrote_goes_on(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:4]))
    (run,) = bridges.read(place)
    export_run(replace(run, logged=()), exporter, ExportOptions())  # it did not store the ranges
    put(place, "trainer_log.jsonl", factory(ROWS))
    save(place / "checkpoint-60", ROWS[:6], max_steps=100)
    assert export(place, exporter).status == "appended"
    assert len(exporter.runs) == 1


def test_another_run_with_the_same_steps_is_another_run(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:4]))
    export(place, exporter)
    save(place / "checkpoint-60", [{**row, "loss": row["loss"] + 1} for row in ROWS[:6]])
    (run,) = bridges.read(place)
    assert export_run(run, exporter, ExportOptions()).status == "exported"
    assert len(exporter.runs) == 2


def test_settings_that_contradict_make_another_run(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:4], total=100))
    export(place, exporter)
    other = tmp_path / "smoke"
    put(other, "trainer_log.jsonl", factory(ROWS[:6], total=200))
    save(other, ROWS[:6], max_steps=200)
    assert export(other, exporter).status == "exported"
    assert len(exporter.runs) == 2
    put(place, "trainer_log.jsonl", factory(ROWS, total=300))  # resumed with another length
    save(place, ROWS, max_steps=300)
    assert export(place, exporter).status == "appended"
    assert len(exporter.runs) == 2


def test_lines_that_the_first_version_kept_twice_are_recognised(tmp_path: Path) -> None:
    exporter = MemoryExporter()
    (run,) = bridges.read(FAULTS / "swift_twice" / "logging.jsonl")
    (earlier,) = run.logs
    assert len(earlier.stream) == 6
    first = earlier.stream.take(np.arange(4))
    old = replace(run, stream=first, logs=(), logged=())
    assert export_run(old, exporter, ExportOptions()).rows == 4
    report = export_run(run, exporter, ExportOptions())
    assert (report.status, report.rows, report.verified) == ("appended", 5, True)
    assert len(exporter.runs) == 1


def test_rows_of_a_log_are_recorded_in_ranges() -> None:
    ranges = ((2, 4, 7), (4, 5, 1), (9, 10, 2))
    lines = lines_of(ranges, 10)
    assert lines.tolist() == [-1, -1, 7, 8, 1, -1, -1, -1, -1, 2]
    assert ranges_of(lines) == ranges
    assert lines_of(ranges, 3).tolist() == [-1, -1, 7]
    assert ranges_of(np.full(3, -1)) == ()


@pytest.mark.parametrize("found", [[[-1, 2, 0]], [[3, 2, 0]], [[0, 2, 0], [1, 3, 2]], [[0, 1]], 3])
def test_ranges_that_a_person_changed_are_refused(found: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        checked(found)


def test_rows_of_two_processes_in_turns_are_kept_as_they_are(tmp_path: Path) -> None:
    exporter, place = exporter_of("mlflow-direct", tmp_path), tmp_path / "run"
    rows = [{**ROWS[0], "step": step, "loss": 1.0 / step} for step in range(1, 200)]
    lines = [line for row in rows for line in factory([row, {**row, "loss": row["loss"] + 1}])]
    put(place, "trainer_log.jsonl", lines)
    assert export(place, exporter).rows == 398
    save(place, rows, max_steps=100)
    report = export(place, exporter)
    assert [f.count for f in report.findings if f.code == "rows-kept-from-log"] == [398]


def test_where_the_rows_are_from_is_told(tmp_path: Path) -> None:
    exporter, place = MemoryExporter(), tmp_path / "run"
    put(place, "trainer_log.jsonl", factory(ROWS[:4]))
    run: Run
    (run,) = bridges.read(place)
    assert run.logged == ((0, 4, 0),)
    export(place, exporter)
    put(place, "trainer_log.jsonl", factory(ROWS[:7]))
    save(place / "checkpoint-60", ROWS[:6], max_steps=90)
    (run,) = bridges.read(place)
    assert run.logged == ((6, 7, 6),)
    report = export_run(run, exporter, ExportOptions())
    assert [f.count for f in report.findings if f.code == "rows-from-log"] == [1]
