"""With event files beside a state, the times of an export are those of the live run.

The live files are read with TensorBoard's own loader, ours too.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

import bridges
from tests.integration.exporters.wandb.support import file_of, rows_of
from tests.support import DATA

GROUNDTRUTH = DATA / "groundtruth"
SCENARIOS = sorted(path.name for path in GROUNDTRUTH.iterdir())
# after a crash: the last step that the first process saved, and the file of the second one
RESUMED = {
    "crash_resume_new_run": (10, "events.out.tfevents.1795340879.vm.3498.0"),
    "crash_resume_same_run": (10, "events.out.tfevents.1795340907.vm.3653.0"),
}

Point = tuple[str, int, str]


def scalars(files: list[Path]) -> dict[Point, list[tuple[str, float]]]:
    """File and wall time of every scalar, by tag, step and value."""
    found: dict[Point, list[tuple[str, float]]] = defaultdict(list)
    for file in files:
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    number = repr(np.float32(value.simple_value).item())
                    found[value.tag, event.step, number].append((file.name, event.wall_time))
    return found


def output(tmp_path: Path, scenario: str) -> Path:
    """The output directory of a scenario as a training leaves it: states, and logs below it."""
    out = tmp_path / "out"
    shutil.copytree(GROUNDTRUTH / scenario / "logs", out / "runs")
    shutil.copy(GROUNDTRUTH / scenario / "trainer_state.json", out)
    trial = GROUNDTRUTH / scenario / "trial_0"
    if trial.exists():
        shutil.copytree(trial, out / "run-0" / "checkpoint-8")
    return out


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_times_are_the_live_ones(tmp_path: Path, scenario: str) -> None:
    out = output(tmp_path, scenario)
    live = scalars(sorted(out.glob("runs/*/events*")))
    report = bridges.export(out, to="tensorboard", logdir=str(tmp_path / "tb"))
    assert report.exit_code == 0
    ours = scalars(sorted((tmp_path / "tb").rglob("events*")))
    assert sum(map(len, ours.values())) > 20
    resumed_at, second = RESUMED.get(scenario, (10**9, ""))
    every = np.array(sorted({time for there in live.values() for _, time in there}))
    for point, written in ours.items():
        _, step, _ = point
        truth = [time for file, time in live[point] if step <= resumed_at or file == second]
        assert len(truth) >= len(written), point  # the state may lack what was logged after it
        for _, our_time in written:
            # one time a row, that of its first scalar, where the live callback has one a scalar
            assert any(-0.002 < live_time - our_time < 0.02 for live_time in truth), point
    assert exact(ours, every) == 1


def exact(ours: dict[Point, list[tuple[str, float]]], every: NDArray[np.float64]) -> float:
    """The share of our points whose time is one of the live callback's to the microsecond."""
    times = [time for written in ours.values() for _, time in written]
    return sum(bool((np.abs(every - time) < 1e-6).any()) for time in times) / len(times)


def test_times_in_mlflow_are_those_of_the_live_callbacks(tmp_path: Path) -> None:
    out = output(tmp_path, "token_counts")
    live = scalars(sorted(out.glob("runs/*/events*")))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert bridges.export(out, to="mlflow", tracking_uri=uri).exit_code == 0
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        rows = database.execute("SELECT step, timestamp FROM metrics WHERE key = 'loss'").fetchall()
    truth = {step: there[0][1] for (tag, step, _), there in live.items() if tag == "train/loss"}
    assert len(rows) == len(truth) == 4
    for step, timestamp in rows:
        assert abs(timestamp / 1000 - truth[step]) < 0.003


def test_times_in_wandb_have_the_microseconds_of_the_event_files(tmp_path: Path) -> None:
    out = output(tmp_path, "token_counts")
    live = scalars(sorted(out.glob("runs/*/events*")))
    every = {round(time * 1e6) for there in live.values() for _, time in there}
    bridges.export(out, to="wandb", wandb_dir=str(tmp_path))
    times = [round(row["_timestamp"] * 1e6) for row in rows_of(file_of(tmp_path))]
    assert len(times) > 4
    assert set(times) <= every
    assert any(time % 1000 for time in times)


def test_the_start_is_that_of_the_event_file(tmp_path: Path) -> None:
    out = output(tmp_path, "nan_loss")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    bridges.export(out, to="mlflow", tracking_uri=uri)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        ((start, end),) = database.execute("SELECT start_time, end_time FROM runs").fetchall()
    assert start // 1000 == 1795340969  # as the file's name says
    assert start < end < start + 60_000
