"""Exports that are killed or that meet each other: no half run is ever seen, none is kept twice.

Kills come at random moments of the real command, and at every single step that it takes in the
file system; the next export always ends with the very bytes of an export that nothing disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.exporters.tensorboard.segments import read_event_file
from tests import kills
from tests.integration.exporters.tensorboard.support import (
    ENVIRONMENT,
    Row,
    contents,
    entries,
    export_command,
    read_raw,
    show,
    training_rows,
    visible,
    write_state,
)
from tests.kills import child, killed_at, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes"),
]

ROWS = training_rows(4_545)  # with the eval rows 4,999
LENGTHS = (1_000, 2_000, 3_000, 4_000, len(ROWS))
SUBPROCESS_KILLS = 25  # of a new export, and as many of an append


def expected(rows: list[Row]) -> Counter[tuple[str, int, str]]:
    """Every point that the rows make."""
    return Counter(
        (f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}", row["step"], show(value))
        for row in rows
        for key, value in row.items()
        if key != "step"
    )


def held(directory: Path) -> Counter[tuple[str, int, str]]:
    """Every point that the visible files of a directory hold."""
    series, _ = read_raw(directory)
    return Counter((tag, step, value) for tag, points in series.items() for step, value in points)


EXPECTED = expected(ROWS)


@dataclass
class Case:
    """A state, what the log directory holds before, and after an export that nothing disturbs."""

    state: Path
    before: Path | None
    clean: dict[str, bytes]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    root = tmp_path_factory.mktemp("states")
    return {size: write_state(root / f"{size}.json", ROWS[:size]) for size in LENGTHS}


@pytest.fixture(scope="module", params=["new", "append"])
def case(
    request: pytest.FixtureRequest,
    states: dict[int, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    root = tmp_path_factory.mktemp(request.param)
    before = None
    if request.param == "append":
        before = root / "before"
        export(states[LENGTHS[0]], before)
        shutil.copytree(before, root / "clean")
    export(states[len(ROWS)], root / "clean")
    return Case(states[len(ROWS)], before, contents(root / "clean"))


def export(state: Path, logdir: Path, name: str = "run") -> str:
    """Export within this process; the status."""
    (report,) = bridges.export(state, to="tensorboard", logdir=logdir, run_name=name).runs
    assert report.verified, report
    assert not report.failed, report
    return report.status


def begin(case: Case, logdir: Path) -> None:
    if case.before is not None:
        shutil.copytree(case.before, logdir)


def check_after_a_kill(case: Case, logdir: Path) -> None:
    """Only whole files are visible, and the next export mends everything."""
    for path in visible(logdir) if logdir.exists() else []:
        read_event_file(str(path))
        assert case.clean[path.relative_to(logdir).as_posix()] == path.read_bytes()
    export(case.state, logdir)
    assert contents(logdir) == case.clean
    assert entries(logdir) == ["run"]


# --- kills ------------------------------------------------------------------------------------


def test_killed_at_random_moments(case: Case, tmp_path: Path) -> None:
    logdir = tmp_path / "logs"

    def begin_anew() -> kills.Command:
        shutil.rmtree(logdir, ignore_errors=True)
        begin(case, logdir)
        before = kills.look(logdir)
        command = export_command(case.state, logdir, "--run-name", "run")
        process = kills.start(command, env=ENVIRONMENT)
        return kills.Command(process, lambda: kills.look(logdir) != before)

    kills.kill_often(SUBPROCESS_KILLS, 4, begin_anew, lambda: check_after_a_kill(case, logdir))


def test_killed_again_and_again_in_one_place(case: Case, tmp_path: Path) -> None:
    logdir = tmp_path / "logs"
    begin(case, logdir)
    for steps in [3, 5, 7, 4, 8, 6, 9, 10]:
        killed_at(steps, logdir, partial(export, case.state, logdir))
    check_after_a_kill(case, logdir)


def test_killed_at_every_step_in_the_file_system(case: Case, tmp_path: Path) -> None:
    for step in range(200):
        logdir = tmp_path / str(step)
        begin(case, logdir)
        code = killed_at(step, logdir, partial(export, case.state, logdir))
        check_after_a_kill(case, logdir)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0, "the export never came to its end"
    assert step > 10


# --- processes --------------------------------------------------------------------------------


def at_once(actions: Sequence[Callable[[], Any]]) -> list[int]:
    """The exit codes of actions that start at one moment in processes of their own."""
    ready, go = os.pipe()

    def start(action: Callable[[], Any]) -> int:
        os.close(go)
        os.read(ready, 1)  # ends when the parent closes its side
        action()
        return 0

    processes = [child(partial(start, action)) for action in actions]
    os.close(ready)
    os.close(go)
    return [wait_for(process) for process in processes]


def commands_at_once(commands: list[list[str]]) -> list[int]:
    processes = [subprocess.Popen(command, env=ENVIRONMENT) for command in commands]
    return [process.wait() for process in processes]


# --- exports that meet ------------------------------------------------------------------------


@pytest.mark.parametrize("writers", [2, 4])
def test_commands_for_one_run_leave_one_run(case: Case, writers: int, tmp_path: Path) -> None:
    for number in range(2):
        logdir = tmp_path / str(number)
        begin(case, logdir)
        command = export_command(case.state, logdir, "--run-name", "run")
        assert commands_at_once([command] * writers) == [0] * writers
        assert contents(logdir) == case.clean
        assert entries(logdir) == ["run"]


@pytest.mark.parametrize("writers", [2, 4, 8])
def test_exports_of_one_run_under_other_names_leave_one_run(
    writers: int, states: dict[int, Path], tmp_path: Path
) -> None:
    for number in range(8):
        logdir = tmp_path / str(number)
        actions = [
            partial(export, states[len(ROWS)], logdir, f"run{name}") for name in range(writers)
        ]
        assert at_once(actions) == [0] * writers
        assert len(entries(logdir)) == 1
        assert held(logdir) == EXPECTED


@pytest.mark.parametrize("writers", [2, 4, 8])
def test_exports_of_one_run_leave_one_run(case: Case, writers: int, tmp_path: Path) -> None:
    for number in range(8):
        logdir = tmp_path / str(number)
        begin(case, logdir)
        actions = [partial(export, case.state, logdir)] * writers
        assert at_once(actions) == [0] * writers
        assert contents(logdir) == case.clean
        assert entries(logdir) == ["run"]


def test_exports_of_one_run_where_its_name_is_taken(
    states: dict[int, Path], tmp_path: Path
) -> None:
    for number in range(5):
        logdir = tmp_path / str(number)
        (logdir / "run").mkdir(parents=True)
        (logdir / "run" / "mine").write_text("")
        actions = [partial(export, states[len(ROWS)], logdir)] * 4
        assert at_once(actions) == [0] * 4
        assert entries(logdir) == ["run", "run-2"]
        assert held(logdir) == EXPECTED


def test_exports_of_two_runs_of_one_name_leave_two_runs(tmp_path: Path) -> None:
    runs = [training_rows(500, seed=seed) for seed in (1, 2)]
    sources = [write_state(tmp_path / f"{n}.json", rows) for n, rows in enumerate(runs)]
    for number in range(8):
        logdir = tmp_path / str(number)
        actions = [partial(export, source, logdir) for source in sources * 2]
        assert at_once(actions) == [0] * 4
        assert entries(logdir) == ["run", "run-2"]
        have = [held(logdir / name) for name in ("run", "run-2")]
        assert [expected(rows) in have for rows in runs] == [True, True]


def test_forks_of_one_beginning_leave_two_runs(tmp_path: Path) -> None:
    rows = training_rows(500)
    runs = [rows, [*rows[:300], *({**row, "loss": 9.0} for row in rows[300:] if "loss" in row)]]
    sources = [write_state(tmp_path / f"{n}.json", part) for n, part in enumerate(runs)]
    for number in range(8):
        logdir = tmp_path / str(number)
        actions = [partial(export, source, logdir) for source in sources * 2]
        assert at_once(actions) == [0] * 4
        assert entries(logdir) == ["run", "run-2"]
        have = [held(logdir / name) for name in ("run", "run-2")]
        assert [expected(part) in have for part in runs] == [True, True]


@pytest.mark.parametrize("first", [0, LENGTHS[0]])
def test_histories_of_different_lengths_become_one(
    first: int, states: dict[int, Path], tmp_path: Path
) -> None:
    for number in range(6):
        logdir = tmp_path / str(number)
        if first:
            export(states[first], logdir)
        order = random.Random(number).sample(LENGTHS, len(LENGTHS))
        actions = [partial(export, states[size], logdir) for size in order]
        assert at_once(actions) == [0] * len(order)
        assert entries(logdir) == ["run"]
        assert held(logdir) == EXPECTED
        assert [path for path in (logdir / "run").iterdir() if path.name.startswith(".")] == []
        assert export(states[len(ROWS)], logdir) == "unchanged"
