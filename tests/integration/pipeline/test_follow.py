"""Following a training while it saves: states that are half-written, rotated away and overwritten,
under a command that watches them, is stopped, is killed. In the end the target holds the same as
after one export of what the training left.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import polars
import pytest

import bridges
from bridges.exporters.tensorboard.segments import read_event_file
from bridges.pipeline.watching import stamps
from tests import kills
from tests.bounds import HANGS, until
from tests.integration.exporters.mlflow.support import judge
from tests.integration.exporters.tensorboard.readers import by_legacy_accumulator
from tests.integration.exporters.tensorboard.support import (
    ENVIRONMENT,
    Row,
    bridge_command,
    training_rows,
    visible,
    write_state,
)
from tests.integration.exporters.wandb.support import TIMES, items_of, of_kind, rows_of, without

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes"),
]

TARGETS = ("tensorboard", "mlflow", "wandb", "trackio", "parquet")
SUMMARY = {"train_runtime": 60.0, "train_loss": 1.5, "total_flos": 1e9}
WAITING = rb"waiting for out, 9 rows; last change (\d+) s ago"
SAVE = 11  # rows between two saves: one evaluation in each


class Training(threading.Thread):
    """A training that saves as the Trainer does: settings, then the state, then the rotation.

    A state is written straight to its place, in `parts` that reach the disk one by one. A training
    that is `held` saves as often as `allowed` was released.
    """

    def __init__(
        self, out: Path, rows: Sequence[Row], *, pause: float = 0.05, held: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self.out, self.rows, self.pause, self.parts = out, list(rows), pause, 3
        self.allowed = threading.Semaphore(0 if held else len(rows))

    def run(self) -> None:
        for rows in range(SAVE, len(self.rows) + 1, SAVE):
            self.allowed.acquire()
            self.checkpoint(self.rows[:rows])
        end = {**SUMMARY, "epoch": self.rows[-1]["epoch"], "step": self.rows[-1]["step"]}
        self.save(self.out, [*self.rows, end])

    def checkpoint(self, rows: list[Row]) -> None:
        folder = self.out / f"checkpoint-{rows[-1]['step']}"
        self.save(folder, rows)
        there = sorted(self.out.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
        for old in there[:-2]:
            shutil.rmtree(old)

    def save(self, folder: Path, rows: list[Row]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text('{"hidden_size": 8}')
        step, last = rows[-1]["step"], self.rows[-1]["step"]
        fields = {"global_step": step, "max_steps": last, "is_hyper_param_search": False}
        data = json.dumps({**fields, "log_history": rows}, indent=2, sort_keys=True)
        size = len(data) // self.parts + 1
        with (folder / "trainer_state.json").open("w") as file:
            for start in range(0, len(data), size):
                file.write(data[start : start + size])
                file.flush()
                time.sleep(self.pause / self.parts)


def to(target: str, folder: Path) -> list[str]:
    """The options of an export into a folder."""
    own = {
        "tensorboard": ["--logdir", str(folder)],
        "mlflow": ["--tracking-uri", f"sqlite:///{folder}/mlflow.db"],
        "wandb": ["--wandb-dir", str(folder)],
        "trackio": ["--trackio-dir", str(folder)],
        "parquet": ["--out", str(folder)],
    }
    return ["--to", target, *own[target]]


def make_ready(target: str, folder: Path) -> None:
    """Make a new database before the clock runs: that is mlflow's work, and takes seconds."""
    folder.mkdir(parents=True)
    if target == "mlflow":
        state = write_state(folder.parent / "other" / "trainer_state.json", training_rows(3))
        uri = f"sqlite:///{folder}/mlflow.db"
        assert bridges.export(state, to="mlflow", tracking_uri=uri, experiment="other").runs


def points(target: str, folder: Path) -> list[Any]:
    """All runs that a target holds, each with all its points and what is said of its end, without
    times and names.
    """
    if target == "tensorboard":
        runs: list[Any] = [shown.scalars for shown in by_legacy_accumulator(folder).values()]
    elif target == "mlflow":
        runs = [
            [
                {key: [point[1:] for point in series] for key, series in run.points.items()},
                (run.status, run.params),
            ]
            for run in judge(f"sqlite:///{folder}/mlflow.db", "bridges")
        ]
    elif target == "trackio":
        runs = trackio_points(folder)
    elif target == "parquet":
        tables = [
            polars.read_parquet(path.read_bytes()) for path in folder.glob("metrics/*.parquet")
        ]
        runs = [table.drop("time").rows() for table in tables]
    else:
        runs = [
            [
                [without(row, *TIMES) for row in rows_of(file)],
                [
                    without(items_of(summary.update), "_wandb", *TIMES)
                    for summary in of_kind(file, "summary")
                ],
            ]
            for file in folder.glob("wandb/offline-run-*/run-*.wandb")  # all that wandb looks at
        ]
    return sorted(runs, key=repr)


def trackio_points(folder: Path) -> list[Any]:
    """The rows of each run in Trackio's file, and its summary."""
    if not (folder / "huggingface.db").exists():
        return []
    with closing(sqlite3.connect(folder / "huggingface.db")) as database:
        configs = database.execute("SELECT run_id, config FROM configs").fetchall()
        query = "SELECT step, metrics FROM metrics WHERE run_id = ? ORDER BY id"
        rows = [database.execute(query, (run_id,)).fetchall() for run_id, _ in configs]
    keys = [f"summary/{key}" for key in SUMMARY]
    found = [[json.loads(config).get(key) for key in keys] for _, config in configs]
    return [*zip(rows, found, strict=True)]


class Follower:
    """`bridge export --follow` as a process; its stdout and stderr go to files."""

    def __init__(self, source: Path, target: str, folder: Path, *more: str) -> None:
        self.log = folder.parent / f"log-{time.monotonic_ns()}"
        options = [*to(target, folder), "--follow", "--interval", "0.02", *more]
        with self.log.open("w") as err, self.log.with_suffix(".out").open("w") as out:
            self.process = subprocess.Popen(
                bridge_command("export", source, *options),
                stdout=out,
                stderr=err,
                env=ENVIRONMENT,
                start_new_session=True,
            )

    def wait(self) -> int:
        return self.process.wait(HANGS)

    @property
    def err(self) -> str:
        return self.log.read_text()

    @property
    def out(self) -> str:
        return self.log.with_suffix(".out").read_text()

    def has_appended(self, times: int) -> bool:
        assert self.process.poll() is None, self.err
        return self.err.count("✓ appended") >= times


Follow = Callable[..., Follower]


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Starts followers; none of them outlives the test."""
    started: list[Follower] = []

    def start(source: Path, target: str, folder: Path, *more: str) -> Follower:
        started.append(Follower(source, target, folder, *more))
        return started[-1]

    yield start
    for follower in started:
        follower.process.kill()
        follower.process.wait()


def check_whole(target: str, folder: Path, source: Path, tmp_path: Path) -> None:
    """The target holds what one export of the source makes, and nothing else."""
    make_ready(target, tmp_path / "plain" / "target")
    run(source, target, tmp_path / "plain" / "target")
    assert points(target, folder) == points(target, tmp_path / "plain" / "target")


def run(source: Path, target: str, folder: Path, code: int = 0) -> list[dict[str, Any]]:
    """One plain export; its report."""
    done = subprocess.run(
        bridge_command("export", source, *to(target, folder), "--json"),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    assert done.returncode == code, done.stdout + done.stderr
    runs: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    return runs


@pytest.mark.parametrize("target", TARGETS)
def test_a_training_is_followed_to_its_end(target: str, follow: Follow, tmp_path: Path) -> None:
    """It begins before the output directory is there, and reads states that are half-written."""
    make_ready(target, tmp_path / "target")
    rows = training_rows(200)
    follower = follow(tmp_path / "out", target, tmp_path / "target", "-v", "--json")
    until(lambda: "not yet" in follower.err)
    training = Training(tmp_path / "out", rows, pause=0.15)
    training.start()
    assert follower.wait() == 0, follower.err
    training.join()
    (report,) = json.loads(follower.out)["runs"]
    assert report["rows"] == len(rows) + 1
    assert (report["status"], report["verified"]) == ("exported", True)
    # what an append to W&B puts into the summary is not counted as new
    assert report["points"] - report["new_points"] == (
        len(SUMMARY) if target in ("wandb", "trackio") else 0
    )
    assert follower.err.startswith(f"following {tmp_path / 'out'}: press Ctrl-C to stop")
    assert "out: found nothing there" in follower.err  # before it began
    assert "found the end of the file" in follower.err  # a state that was being written
    assert follower.err.count("✓ appended") >= 5
    assert follower.err.rstrip().endswith("every run has its summary row")
    assert "Traceback" not in follower.err
    check_whole(target, tmp_path / "target", tmp_path / "out", tmp_path)
    assert [entry["status"] for entry in run(tmp_path / "out", target, tmp_path / "target")] == [
        "unchanged"
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_middle_it_tells_and_goes_on(
    number: int, follow: Follow, tmp_path: Path
) -> None:
    training = Training(tmp_path / "out", training_rows(200), pause=0.15, held=True)
    training.start()
    target = tmp_path / "target"
    follower = follow(tmp_path / "out", "tensorboard", target)

    def has_rows(count: int) -> bool:
        return target.exists() and epochs(target) == [count]

    for saves in range(1, 4):
        training.allowed.release()
        until(partial(has_rows, saves * SAVE))
    training.allowed.release(3)
    until(lambda: follower.has_appended(2))
    follower.process.send_signal(number)
    assert follower.wait() == 130
    assert follower.err.rstrip().endswith(
        "finished runs are kept: rerun the same command for the rest"
    )
    assert "Traceback" not in follower.err
    lines = follower.out.splitlines()
    assert lines[0].startswith("✓ exported  out  ")
    assert lines[-1] == f"View: tensorboard --logdir {target}"
    (held,) = points("tensorboard", target)
    assert 2 * SAVE < len(held["train/epoch"]) <= 6 * SAVE
    training.allowed.release(len(training.rows))
    assert follow(tmp_path / "out", "tensorboard", target).wait() == 0
    training.join()
    check_whole("tensorboard", target, tmp_path / "out", tmp_path)


def test_quiet_says_nothing_and_waits_no_longer_than_it_is_told(
    follow: Follow, tmp_path: Path
) -> None:
    write_state(tmp_path / "out" / "checkpoint-9" / "trainer_state.json", training_rows(9))
    started = time.monotonic()
    more = ("--quiet", "--idle-timeout", "0.5")
    follower = follow(tmp_path / "out", "tensorboard", tmp_path / "target", *more)
    assert follower.wait() == 0
    assert (follower.out, follower.err) == ("", "")
    assert 0.5 < time.monotonic() - started < HANGS
    assert len(points("tensorboard", tmp_path / "target")) == 1


def test_a_crash_and_a_resume_make_two_runs(follow: Follow, tmp_path: Path) -> None:
    """From an earlier checkpoint on with other values, while the later one is still there."""
    rows = training_rows(120)
    other = [*rows[: 3 * SAVE], *({**row, "epoch": 9.0} for row in rows[3 * SAVE :])]
    target = tmp_path / "target"
    crashed = Training(tmp_path / "out", rows)
    follower = follow(tmp_path / "out", "tensorboard", target)
    for count in range(1, 6):
        crashed.checkpoint(rows[: count * SAVE])
    until(lambda: epochs(target) == [5 * SAVE])
    resumed = Training(tmp_path / "out", other)
    resumed.checkpoint(other[: 4 * SAVE])
    until(lambda: epochs(target) == [4 * SAVE, 5 * SAVE])
    resumed.run()
    assert follower.wait() == 0, follower.err
    assert epochs(target) == [5 * SAVE, len(other) + 1]
    assert follower.out.count("✓ exported  out") == 2


def epochs(logdir: Path) -> list[int]:
    """How many rows each run of a log directory has."""
    return sorted(len(run["train/epoch"]) for run in points("tensorboard", logdir))


def test_a_terminal_shows_what_is_waited_for(tmp_path: Path) -> None:
    write_state(tmp_path / "out" / "checkpoint-9" / "trainer_state.json", training_rows(9))
    terminal, other_end = os.openpty()
    options = [*to("tensorboard", tmp_path / "target"), "--follow", "--interval", "0.1"]
    command = bridge_command("export", tmp_path / "out", *options, "--idle-timeout", "0")
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=other_end, env=environment
    ) as process:
        os.close(other_end)
        shown, seconds, stopped = b"", set[int](), False
        with suppress(OSError):  # which is how a terminal says that the other end is closed
            while True:
                shown += os.read(terminal, 10_000)
                seconds = {int(number) for number in re.findall(WAITING, shown)}
                if len(seconds - {0}) >= 2 and not stopped:
                    process.send_signal(signal.SIGINT)
                    stopped = True
        assert process.stdout is not None
        assert process.stdout.read().startswith("✓ exported  out  9 rows".encode())
        assert process.wait() == 130
    os.close(terminal)
    assert b"press Ctrl-C to stop" in shown
    assert len(seconds - {0}) >= 2  # it goes on counting


@pytest.mark.parametrize("target", TARGETS)
def test_killed_at_random_moments(target: str, follow: Follow, tmp_path: Path) -> None:
    make_ready(target, tmp_path / "target")
    moments = random.Random(7)
    training = Training(tmp_path / "out", training_rows(600), pause=0.12, held=True)
    training.start()
    training.allowed.release(2)
    folder = tmp_path / "target"
    first = follow(tmp_path / "out", target, folder)
    until(lambda: points(target, folder), first.process)
    usual = kills.processor_time(first.process)  # until it gets somewhere
    first.process.kill()
    wrote = 0  # how many were killed after they had changed the target
    for _ in range(40):
        training.allowed.release()
        changed = partial(differs, folder, kills.look(folder))
        follower = follow(tmp_path / "out", target, folder)
        moment = usual * moments.uniform(0.8, 2.5)
        wrote += kills.killed(kills.Command(follower.process, changed), moment)
        assert follower.process.returncode == -signal.SIGKILL, follower.err
        for path in visible(folder):
            read_event_file(str(path))  # whole, whatever was killed
        if wrote == 5:
            break
    assert wrote == 5
    training.allowed.release(len(training.rows))
    training.join()
    run(tmp_path / "out", target, folder)
    check_whole(target, folder, tmp_path / "out", tmp_path)


def differs(folder: Path, before: object) -> bool:
    return kills.look(folder) != before


def test_a_poll_is_cheap(tmp_path: Path) -> None:
    """A tree of 500 runs of two checkpoints, 5,000 files: 40 ms of processor time to look at it
    where reading it takes 1.1 s (measured on two cores).
    """
    for number in range(500):
        rows = training_rows(100, seed=number)
        for step in (50, 100):
            folder = tmp_path / f"run-{number}" / f"checkpoint-{step}"
            write_state(folder / "trainer_state.json", rows[: step * 11 // 10])
            for name in ("config.json", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
                (folder / name).write_text("{}")
    poll = seconds(lambda: stamps(str(tmp_path)))
    read = seconds(lambda: bridges.read(tmp_path))
    assert poll < read / 10


def seconds(action: Callable[[], object]) -> float:
    """The processor time of an action, the better of two."""
    times = []
    for _ in range(2):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return min(times)
