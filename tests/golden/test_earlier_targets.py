"""Runs that an earlier commit wrote: recognised, verified, and left as they are."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.golden.make_earlier_targets import FOLDER, TARGETS

COMMITS = sorted(path.name.removesuffix(".tar.gz") for path in FOLDER.glob("*.tar.gz"))
RUNS = 7  # of the sources
PASSING = re.compile(r"marks\.jsonl|/\.bridges/|-journal$")  # files that no reader of runs takes


@pytest.fixture(params=COMMITS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The sources and the targets of a commit."""
    with tarfile.open(FOLDER / f"{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def bridge(place: Path, *words: str, code: int = 0) -> Any:
    """The JSON document of a command that ends with this exit code."""
    command = [sys.executable, "-m", "bridges", *words, "--json"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def contents(folder: Path) -> dict[str, str]:
    """Digests of all files that hold points; of databases, of the rows of their tables."""
    return {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not PASSING.search(str(path.relative_to(folder)))
    }


def _digest(path: Path) -> str:
    if path.suffix != ".db":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with sqlite3.connect(path) as database:
        return repr([sorted(database.execute(f"select * from {table}")) for table in TABLES])


TABLES = ("metrics", "params", "runs")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "-".join(target[::2]))
@pytest.mark.parametrize("command", ["export", "verify"])
def test_runs_of_an_earlier_commit_are_recognised(
    place: Path, target: tuple[str, ...], command: str
) -> None:
    before = contents(place / "targets")
    name, *options = target
    document = bridge(place, command, "sources", "--to", name, *options)
    assert [run["status"] for run in document["runs"]] == ["unchanged"] * RUNS
    assert all(run["verified"] for run in document["runs"])
    assert contents(place / "targets") == before


def test_a_migration_of_an_earlier_commit_is_recognised(place: Path) -> None:
    before = contents(place / "targets")
    document = bridge(place, "migrate", "migration.yaml")
    assert {run["status"] for run in document["runs"]} == {"unchanged"}
    assert contents(place / "targets") == before


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "-".join(target[::2]))
def test_results_of_an_earlier_commit_that_the_state_holds_since_are_the_same_run(
    place: Path, target: tuple[str, ...]
) -> None:
    """The row of a test has no epoch there, so it is replaced, where that is possible."""
    plain = place / "sources" / "plain"
    state = json.loads((plain / "trainer_state.json").read_text())
    test = json.loads((plain / "test_results.json").read_text())
    last = {"step": state["global_step"], "epoch": 3.0}
    state["log_history"] += [{**test, **last}, {"loss": 0.1, **last}]
    (plain / "trainer_state.json").write_text(json.dumps(state))
    name, *options = target
    arguments = ["export", "sources/plain", "--to", name, *options]
    if "client" in options or "targets/synced" in options:
        (run,) = bridge(place, *arguments, code=1)["runs"]
        assert "would be stored twice" in run["findings"][-1]["message"]
        return
    (run,) = bridge(place, *arguments)["runs"]
    assert (run["status"], run["verified"]) == ("appended", True)
    assert "filled-rows-replaced" in [finding["code"] for finding in run["findings"]]
    (again,) = bridge(place, *arguments)["runs"]
    assert (again["status"], again["location"]) == ("unchanged", run["location"])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: "-".join(target[::2]))
@pytest.mark.parametrize("goes_on", [False, True], ids=["as it was", "goes on"])
def test_results_of_an_earlier_commit_that_have_changed_since_are_appended(
    place: Path, target: tuple[str, ...], goes_on: bool
) -> None:
    """They are rows of the history there, and their values are in no file any more."""
    plain, (name, *options) = place / "sources" / "plain", target
    arguments = ["sources/plain", "--to", name, *options]
    (first,) = bridge(place, "export", *arguments)["runs"]
    results = plain / "test_results.json"
    changed = {**json.loads(results.read_text()), "test_loss": 0.5, "test_runtime": 0.05}
    results.write_text(json.dumps(changed))
    (plain / "all_results.json").unlink()
    if goes_on:
        state = json.loads((plain / "trainer_state.json").read_text())
        state["log_history"] += [{"loss": 0.1, "step": state["global_step"] + 1, "epoch": 3.1}]
        (plain / "trainer_state.json").write_text(json.dumps(state))
    (run,) = bridge(place, "export", *arguments)["runs"]
    assert (run["status"], run["verified"]) == ("appended", True)
    assert run["rows"] == first["rows"] + (2 if goes_on else 1)
    assert run["new_points"] == len(changed) + (2 if goes_on else 0)
    for command in ("export", "verify"):
        (again,) = bridge(place, command, *arguments)["runs"]
        assert (again["status"], again["location"]) == ("unchanged", run["location"])
    if "targets/synced" not in options:
        assert run["location"] == first["location"]
