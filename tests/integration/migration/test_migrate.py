"""A migration: many runs into all targets at once, again, and under kills."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.migration.config.config import MigrationConfig
from bridges.migration.migrate import migrate
from bridges.report import BatchReport
from tests import kills
from tests.integration.sources.test_live_times import scalars
from tests.support import REPOSITORY, state

RUNS, BROKEN = 500, 20
pytestmark = pytest.mark.slow


def rows_of(number: int) -> list[dict[str, Any]]:
    """Rows of one of several shapes."""
    rng = random.Random(number)
    rows: list[dict[str, Any]] = []
    for step in range(1, 4 + number % 17):
        rows.append({"loss": rng.random() * 3, "epoch": step / 4, "step": step * 10})
        if number % 3 == 0:
            rows[-1]["grad_norm"] = rng.random()
        if number % 5 == 0 and step % 2 == 0:
            rows.append({"eval_loss": rng.random(), "eval_runtime": 1.5, "step": step * 10})
    if number % 7 == 0:
        rows.append({"train_loss": 1.0, "total_flos": 2.0, "train_runtime": 9.0, "step": step * 10})
    return rows


def make_tree(folder: Path, runs: int, broken: int) -> None:
    """Directories of runs, each with one or more checkpoints, some of them cut off."""
    for number in range(runs):
        rows = rows_of(number)
        out = folder / f"exp{number % 10}" / f"run{number}"
        for count in {len(rows) // 2, len(rows)} if number % 2 else {len(rows)}:
            place = out / f"checkpoint-{count}"
            place.mkdir(parents=True)
            data = state(rows[:count], global_step=count)
            (place / "trainer_state.json").write_bytes(data[:60] if number < broken else data)


def config(tmp_path: Path, **engine: Any) -> MigrationConfig:
    return MigrationConfig.model_validate(
        {
            "sources": [str(tmp_path / "tree")],
            "targets": [
                {"to": "tensorboard", "logdir": str(tmp_path / "tb")},
                {"to": "mlflow", "tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
                {"to": "wandb", "wandb_dir": str(tmp_path / "wb"), "project": "old"},
            ],
            "engine": {"workers": 2, **engine},
        }
    )


def counts(report: BatchReport) -> dict[str, dict[str, int]]:
    """How many runs of each status, by target."""
    found: dict[str, Counter[str]] = {}
    for run in report.runs:
        found.setdefault(run.target, Counter())[run.status] += 1
    return {target: dict(count) for target, count in found.items()}


def test_five_hundred_runs_to_three_targets_at_once(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", RUNS, BROKEN)
    (tmp_path / "wb").mkdir()
    first = migrate(config(tmp_path))
    assert first.exit_code == 1
    good, broken_states = RUNS - BROKEN, sum(1 + number % 2 for number in range(BROKEN))
    for target, count in counts(first).items():
        assert count == {"exported": good, "failed": broken_states}, target
    assert {run.target for run in first.runs} == {"tensorboard", "mlflow", "wandb"}
    named = {run.source for run in first.runs if run.failed}
    assert len(named) == broken_states
    assert all(run.verified for run in first.runs if not run.failed)
    again = migrate(config(tmp_path))
    for count in counts(again).values():
        assert count == {"unchanged": good, "failed": broken_states}
    assert again.totals["new_points"] == 0
    one = bridges.export(tmp_path / "tree", to="tensorboard", logdir=str(tmp_path / "tb"))
    assert one.totals["unchanged"] == good  # nor does the other way see any of them as new


MIGRATE = """
import sys
from tests.integration.migration.test_migrate import Path, config, migrate
if __name__ == "__main__":
    migrate(config(Path(sys.argv[1])))
"""


def start(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A migration in a process group of its own."""
    quiet = subprocess.DEVNULL
    script = tmp_path / "run.py"
    script.write_text(MIGRATE)
    command = [sys.executable, str(script), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    return subprocess.Popen(
        command, stdout=quiet, stderr=quiet, start_new_session=True, env=environment
    )


def held(tmp_path: Path) -> dict[str, Any]:
    """What the targets hold: every value of every run, whatever the ids."""
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        mlflow = database.execute(
            "SELECT r.name, m.key, m.step, m.value, m.timestamp FROM metrics m "
            "JOIN runs r ON r.run_uuid = m.run_uuid"
        ).fetchall()
    files = sorted((tmp_path / "tb").rglob("events*"))
    points = Counter(
        (file.parent.relative_to(tmp_path / "tb").as_posix(), *point)
        for file in files
        for point in scalars([file])
    )
    offline = list((tmp_path / "wb" / "wandb").glob("offline-run-*/*.wandb"))
    return {"mlflow": Counter(mlflow), "tensorboard": points, "wandb": len(offline)}


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """SIGKILL of the whole group; then the targets are those of a clean migration."""
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    for place in (clean, killed):
        place.mkdir()
        make_tree(place / "tree", 60, 0)
        (place / "wb").mkdir()
    assert start(clean).wait() == 0
    targets, attempts = (killed / "tb", killed / "wb"), 0

    def begin() -> kills.Command:
        if attempts % 3 == 0:  # else it goes on with what the one before has left
            for target in targets:
                shutil.rmtree(target, ignore_errors=True)
            for database in killed.glob("mlflow.db*"):
                database.unlink()
            (killed / "wb").mkdir()
        before = len(kills.look(*targets))

        def files() -> int:
            return len(kills.look(*targets)) - before

        return kills.Command(start(killed), lambda: files() > 0, work=files)

    def check() -> None:
        nonlocal attempts
        attempts += 1
        if attempts % 3 == 0:
            finish()

    def finish() -> None:
        assert migrate(config(killed)).exit_code == 0
        assert held(killed) == held(clean)
        assert {run.status for run in migrate(config(killed)).runs} == {"unchanged"}

    kills.kill_often(15, 3, begin, check)
    finish()


def test_two_migrations_at_the_same_time(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 60, 0)
    (tmp_path / "wb").mkdir()
    both = [start(tmp_path), start(tmp_path)]
    assert [process.wait() for process in both] == [0, 0]
    assert {run.status for run in migrate(config(tmp_path)).runs} == {"unchanged"}
    found = held(tmp_path)
    assert found["wandb"] == 60
    assert set(found["mlflow"].values()) == {1}
    assert set(found["tensorboard"].values()) == {1}
