"""`wandb sync` of older releases uploads every row of the files that bridges writes itself.

Each release has an environment of its own, which stays in `.venv` for the next test run.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridges.testing.exporters import ROWS
from tests.bounds import HANGS
from tests.integration.exporters.wandb.support import (
    GROUNDTRUTH,
    export,
    file_of,
    files_of,
    received,
    rows_of,
    sync,
    wandb_server,
    without,
)
from tests.support import REPOSITORY, make_run, read_one

pytestmark = pytest.mark.slow
RELEASES = ("0.19.11", "0.24.2", "0.28.2")
OVERWRITING = ("0.19.11", "0.24.2")  # before 0.28 each file was sent as if it was the whole run
SCENARIOS = ("epoch_two_eval_sets", "nan_loss", "odd_values")


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(release: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with that release."""
    kept = REPOSITORY / ".venv"
    place = kept if kept.is_dir() else tmp_path_factory.mktemp("releases")
    folder = place / f"wandb-{release}"
    with (place / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes use it too
        if not (folder / "ready").exists():
            install(f"wandb=={release}", folder)
            (folder / "ready").touch()
    return str(folder / "bin" / "python")


def install(package: str, folder: Path) -> None:
    """Make the environment, in place of one that was not finished."""
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "venv", str(folder))
    run(str(folder / "bin" / "python"), "-m", "pip", "install", package)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server for the test; what wandb keeps in the home directory goes to the test's folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with wandb_server() as url:
        yield url


def test_every_row_is_uploaded(python: str, server: str, tmp_path: Path) -> None:
    for scenario in SCENARIOS:
        trained = read_one(GROUNDTRUTH / scenario / "trainer_state.json")
        assert export(trained, tmp_path, project="p").verified
    files = files_of(tmp_path)
    sync(server, tmp_path, *(file.parent for file in files), python=python)
    runs = received(server)
    assert len(runs) == len(files) == len(SCENARIOS)
    there = Counter(without(row) for run in runs for row in run["history"])
    assert there == Counter(without(row) for file in files for row in rows_of(file))
    assert all(run["complete"] and run["project"] == "p" for run in runs)
    assert all("startedAt" in run["files"]["wandb-metadata.json"] for run in runs)


def test_a_run_grows_after_a_sync(release: str, python: str, server: str, tmp_path: Path) -> None:
    export(make_run(ROWS[:3]), tmp_path)
    sync(server, tmp_path, file_of(tmp_path).parent, python=python)
    assert export(make_run(ROWS), tmp_path).status == "appended"
    first, second = files_of(tmp_path)
    sync(server, tmp_path, second.parent, python=python)
    (run,) = received(server)
    assert (run["rows_received"], run["complete"]) == (len(ROWS), True)
    lost = 3 if release in OVERWRITING else 0
    assert run["rows_overwritten"] == lost
    rows = [*rows_of(first), *rows_of(second)]
    assert [without(row) for row in run["history"]] == [without(row) for row in rows[lost:]]
