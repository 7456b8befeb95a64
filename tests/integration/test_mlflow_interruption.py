"""Exports killed at any moment, and run again: the store holds what one clean export leaves."""

from __future__ import annotations

import random
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.integration.mlflow_support import Judged, command, judge, long_history
from tests.servers import PostgreSQL

pytestmark = pytest.mark.slow
ROUNDS = 50  # attempts to kill


class Exports:
    """`bridge export` processes into one experiment of a store."""

    def __init__(self, uri: str, *more: str) -> None:
        self.uri = uri
        self.more = more
        self.experiment = uuid.uuid4().hex

    def order(self, file: Path) -> list[str]:
        return command(self.uri, file, "--experiment", self.experiment, *self.more)

    def whole(self, file: Path) -> float:
        """Let one finish; how many seconds it takes."""
        started = time.perf_counter()
        done = subprocess.run(self.order(file), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return time.perf_counter() - started

    def killed(self, file: Path, seconds: float) -> bool:
        """Kill one after some seconds; whether it was still running."""
        child: Any = subprocess.Popen(self.order(file), stdout=subprocess.DEVNULL)
        try:
            return int(child.wait(seconds)) < 0
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            return True

    def runs(self) -> list[Judged]:
        return judge(self.uri, self.experiment)


def interrupt(uri: str, folder: Path, rounds: int, *more: str) -> None:
    """Kill exports at random moments: of a new run, then of what a longer history adds to it."""
    chance = random.Random(7)
    files = long_history(folder, 3000), long_history(folder, 6000)
    Exports(uri, *more).whole(files[0])  # makes the store, where there is none
    clean = Exports(uri, *more)
    seconds = max(clean.whole(file) for file in files)
    (expected,) = clean.runs()
    kills = attempts = 0
    while attempts < rounds:
        exports = Exports(uri, *more)
        for file in files:
            for _ in range(5):
                kills += exports.killed(file, chance.uniform(0.1, 1.0) * seconds)
                attempts += 1
            exports.whole(file)
        assert exports.runs() == [expected]
    assert kills > rounds / 2


def test_through_a_server(mlflow_url: str, tmp_path: Path) -> None:
    interrupt(mlflow_url, tmp_path, ROUNDS)


def test_straight_into_postgresql(postgres: PostgreSQL, tmp_path: Path) -> None:
    interrupt(postgres.create_database(uuid.uuid4().hex), tmp_path, ROUNDS)


def test_through_the_installed_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    interrupt(uri, tmp_path, ROUNDS // 3, "--mlflow-writer", "client")
