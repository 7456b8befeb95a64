"""mlflow itself logs into a store in another process while bridges follows that store.

Each point arrives exactly once, although runs begin and end, and points are written in two steps,
during the polls; mlflow's client compares.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline.follow import Following
from bridges.pipeline.options import ExportOptions, Pace
from bridges.sources.mlflow.location import stores_at
from tests.bounds import HANGS, until
from tests.integration.sources.mlflow.oracle import MlflowClient
from tests.mlflow_defects import LINES, LOSS, NEIGHBOUR, OTHER, RUN, TIME, StoreFolder

RUNS, STEPS, BATCH = 2, 400, 20
TRAINING = f"""
import os, sys
os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
from mlflow import MlflowClient
from mlflow.entities import Metric

client = MlflowClient(sys.argv[1])
experiment = client.create_experiment("live")
runs = [client.create_run(experiment, run_name=f"run {{n}}").info.run_id for n in range({RUNS})]
print("begun", flush=True)
for start in range(0, {STEPS}, {BATCH}):
    sys.stdin.readline()
    for number, run in enumerate(runs):
        points = [
            Metric(key, step / 7 + number, 1_700_000_000_000 + 10 * step + late, step)
            for step in range(start, start + {BATCH})
            for key, late in (("loss", 0), ("acc", 5))
        ]
        client.log_batch(run, points)
        client.log_metric(run, "single", start, 1_700_000_000_000 + start, start)
    print(start, flush=True)
for run in runs:
    client.set_terminated(run)
print("ended", flush=True)
"""


class Training:
    """A process in which mlflow logs a batch each time that it is told to."""

    def __init__(self, uri: str, folder: Path) -> None:
        command = [sys.executable, "-c", TRAINING, uri]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=folder)
        assert self.answer() == "begun"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Let it log one more batch; returns at once."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture(params=["files", "sqlite"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The tracking URI of a store of mlflow."""
    if request.param == "files":
        return (tmp_path / "mlruns").as_uri()
    return f"sqlite:///{tmp_path}/source.db"


@pytest.fixture
def training(uri: str, tmp_path: Path) -> Iterator[Training]:
    found = Training(uri, tmp_path)
    yield found
    found.process.kill()
    found.process.communicate()


def points_in(uri: str) -> Counter[tuple[Any, ...]]:
    """All points of the experiment, as mlflow's client reads them."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("live")
    return Counter(
        (run.info.run_name, run.info.status, key, point.step, point.timestamp, point.value)
        for run in client.search_runs([experiment.experiment_id])
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )


def test_points_logged_while_following_arrive_once(
    uri: str, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    location = tmp_path / "mlruns" if uri.startswith("file:") else tmp_path / "source.db"
    (store,) = stores_at(str(location))
    assert store.kind in ("files", "sqlite")
    target, reports = f"sqlite:///{tmp_path}/target.db", list[bridges.RunReport]()
    stop, followed = threading.Event(), list[bridges.BatchReport]()

    def has_appended(count: int) -> bool:
        return len(reports) >= count

    def follow() -> None:
        followed.append(
            bridges.follow(
                location,
                to="mlflow",
                tracking_uri=target,
                interval=0.01,
                idle_timeout=HANGS,
                stop=stop,
                on_append=reports.append,
            )
        )

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        for batch in range(STEPS // BATCH):
            wanted = len(reports) + 1
            training.go_on()
            if batch % 4 == 0:  # the others are logged in the middle of polls
                until(partial(has_appended, wanted))
        for batch in range(STEPS // BATCH):
            assert training.answer() == str(batch * BATCH)
        assert training.answer() == "ended"
        thread.join(HANGS)
    finally:
        stop.set()
        thread.join(HANGS)
    (report,) = followed
    assert report.exit_code == 0
    assert {(run.verified, run.status == "failed") for run in report.runs} == {(True, False)}
    expected = points_in(uri)
    assert expected.total() == RUNS * (2 * STEPS + STEPS // BATCH)
    assert points_in(target) == expected
    assert {status for _, status, *_ in expected} == {"FINISHED"}
    assert sum(report.new_points for report in reports) == expected.total()
    assert len(reports) > RUNS  # in parts


def test_runs_with_equal_points_are_all_followed(tmp_path: Path) -> None:
    """Each is in the target after the first poll."""
    folder = StoreFolder(tmp_path / "mlruns")
    folder.make()
    appended: list[bridges.RunReport] = []
    following = Following(
        [str(folder.root)],
        [MemoryExporter()],
        ExportOptions(),
        Pace(),
        on_append=appended.append,
        wait=lambda seconds: True,
    )
    assert following.run().exit_code == 0
    assert {Path(report.source).name for report in appended} == {RUN, NEIGHBOUR, OTHER}


# each is a sound line, but not the one that is being written
HALVES = {
    "a value": (f"{TIME + 9} 0.12", "5 7\n"),
    "a step": (f"{TIME + 9} 0.125 1", "7\n"),
    "the end of the line": (f"{TIME + 9} 0.125 17", "\n"),
    "a time": (f"{(TIME + 9) // 10}", f"{(TIME + 9) % 10} 0.125 17\n"),
}


@pytest.mark.parametrize("cut", HALVES)
def test_half_a_line_is_not_taken_while_following(cut: str, tmp_path: Path) -> None:
    """The line is completed after polls that saw its first half."""
    folder = StoreFolder(tmp_path / "mlruns")
    folder.make()
    for run_id in (RUN, NEIGHBOUR):
        meta = folder.experiment / run_id / "meta.yaml"
        meta.write_text(meta.read_text().replace("status: 3", "status: 1"))
    target, half, rest = tmp_path / "target.db", *HALVES[cut]

    def points(run_id: str) -> list[tuple[int, float, int]]:
        query = "select timestamp, value, step from metrics where run_uuid = ? order by timestamp"
        if not target.exists():
            return []
        with closing(sqlite3.connect(target)) as database:
            return database.execute(query, (run_id,)).fetchall()

    def has(run_id: str, count: int) -> Callable[[], bool]:
        return lambda: len(points(run_id)) == count

    def write(run_id: str, text: str) -> None:
        with (folder.experiment / run_id / LOSS).open("a") as file:
            file.write(text)

    stop, followed = threading.Event(), list[bridges.BatchReport]()

    def follow() -> None:
        into: dict[str, Any] = {"to": "mlflow", "tracking_uri": f"sqlite:///{target}"}
        pace: dict[str, Any] = {"interval": 0.01, "idle_timeout": HANGS, "stop": stop}
        followed.append(bridges.follow(folder.root, **into, **pace))

    thread = threading.Thread(target=follow)
    thread.start()
    sound = len(LINES.splitlines())
    try:
        until(has(RUN, sound))
        until(has(NEIGHBOUR, sound))
        write(RUN, half)
        for number in range(3):  # the second and third poll begin after the half was written
            write(NEIGHBOUR, f"{TIME + 20 + number} 0.5 {20 + number}\n")
            until(has(NEIGHBOUR, sound + 1 + number))
        assert len(points(RUN)) == sound
        write(RUN, rest)
        until(has(RUN, sound + 1))
    finally:
        stop.set()
        thread.join(HANGS)
    (time, value, step) = points(RUN)[-1]
    expected = [float(part) for part in f"{half}{rest}".split()]
    assert [time, value, step] == expected
    assert followed[0].exit_code == 0
