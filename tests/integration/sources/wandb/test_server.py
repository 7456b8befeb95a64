"""Runs on a W&B server, read by the official client.

The server is our own (no W&B server can run here). With `--as-served` it answers like a real one:
rows padded with null, and texts in place of NaN and Infinity.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.stream.identity import identity_of
from bridges.stream.model import Run
from tests.bounds import HANGS
from tests.integration.exporters.wandb.support import environment, sync, wandb_server
from tests.wandb_logs import exit_record, row_record, run_record, write_run
from tests.wandb_runs import RELEASES, unpack_runs

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wandb-online")]

PROJECT = "wandb://fake-entity/golden"
ONCE = ("trainer", "steps", "metrics", "resumed", "media", "labels")
START = 1_700_000_000
READ = """
import json, sys
from tests.integration.sources.wandb.test_server import described
import bridges
from bridges.sources.wandb import server
server.RUNS_PER_PAGE = 3
found, error = [], ""
try:
    for run in bridges.read(sys.argv[1], **json.loads(sys.argv[2])):
        found.append(described(run))
except bridges.BridgeError as problem:
    error = str(problem)
print(json.dumps([found, error]))
"""


def described(run: Run) -> dict[str, Any]:
    """What is compared of a run, as JSON."""
    identity = identity_of(run)
    return {
        "name": run.name,
        "identity": [identity.key, identity.digest],
        "style": run.key_style,
        "labels": [run.status, run.group, dict(run.tags), run.note, run.project],
        "params": run.params,
        "codes": [finding.code for finding in run.findings],
        "media": [f.message for f in run.findings if f.code == "media-skipped"],
        "steps": run.stream.step.tolist(),
        "rows": [repr(sorted(row.items())) for row in run.stream],
    }


def read(url: str, location: str, **options: Any) -> tuple[dict[str, dict[str, Any]], str]:
    """The runs at a location by name, and the error; by another process, which knows no server."""
    done = subprocess.run(
        [sys.executable, "-c", READ, location, json.dumps(options)],
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    runs, error = json.loads(done.stdout.splitlines()[-1])
    return {run["name"]: run for run in runs}, error


def requests(url: str) -> Mapping[str, int]:
    """The numbers of requests so far, by operation."""
    with urllib.request.urlopen(f"{url}/_stat") as answer:
        found: dict[str, int] = json.load(answer)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offline runs of the newest release."""
    return unpack_runs(RELEASES[-1], tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with these runs."""
    place = tmp_path_factory.mktemp("sync")
    shutil.copytree(folder, place / "wandb")
    with wandb_server("--as-served") as url:
        for run in sorted((place / "wandb").iterdir()):
            sync(url, place / "logs", run)
        yield url


def test_runs_are_the_same_in_their_directories_and_on_the_server(
    server: str, folder: Path
) -> None:
    local = {run.name: described(run) for run in bridges.read(folder)}
    found, error = read(server, PROJECT)
    assert not error
    assert found.keys() == local.keys()
    assert found["resumed"]["steps"] == [0, 1, 2, 3, 4, 5]
    for name in local.keys() - {"values"}:  # where a text "NaN" alone is a number
        for what in ("identity", "style", "labels", "params", "steps", "rows", "media"):
            assert found[name][what] == local[name][what], (name, what)
    assert found["values"]["identity"][0] == local["values"]["identity"][0]
    assert sum(run["codes"].count("run-without-rows") for run in found.values()) == 1


def test_numbers_that_json_lacks_and_padded_rows_are_read(server: str, folder: Path) -> None:
    (local,) = (described(run) for run in bridges.read(folder) if run.name == "values")
    found, _ = read(server, f"{PROJECT}/id-values")
    different = [
        (own, other)
        for own, other in zip(local["rows"], found["values"]["rows"], strict=True)
        if own != other
    ]
    ((own, other),) = different
    assert own.replace("('NaN', 'NaN')", "('NaN', nan)") == other


def test_a_run_is_exported_once_from_both_places(server: str, folder: Path, tmp_path: Path) -> None:
    target = ["--to", "mlflow", "--tracking-uri", f"sqlite:///{tmp_path / 'target.db'}", "--json"]
    for source, status in ((folder, "exported"), (PROJECT, "unchanged")):
        command = [sys.executable, "-m", "bridges", "export", str(source), *target]
        command += [part for name in ONCE for part in ("--select", f"run={name}")]
        done = subprocess.run(
            command, env=environment(server), capture_output=True, text=True, timeout=HANGS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        runs = json.loads(done.stdout)["runs"]
        assert [(run["status"], run["verified"]) for run in runs] == [(status, True)] * len(ONCE)


def test_system_metrics_are_those_of_the_directories(server: str, folder: Path) -> None:
    local = {run.name: run for run in bridges.read(folder, system_metrics=True)}
    without, _ = read(server, PROJECT)
    found, error = read(server, PROJECT, system_metrics=True)
    assert not error
    for name, run in local.items():
        if name in without:  # the run without rows has system metrics only
            assert "system-skipped" in without[name]["codes"]
            assert "system-skipped" not in found[name]["codes"]
        assert any("system/" in row for row in found[name]["rows"])
        if name != "values":
            assert found[name]["rows"] == described(run)["rows"]


def test_runs_are_listed_page_by_page(server: str) -> None:
    before = requests(server).get("Runs", 0)
    found, _ = read(server, PROJECT)
    assert len(found) == 7
    assert requests(server)["Runs"] - before >= 3


@pytest.mark.parametrize("code", ["429", "500"])
def test_a_server_that_goes_on_failing_is_one_message(code: str, tmp_path: Path) -> None:
    rows = [row_record({"loss": 0.5, "_step": 0, "_timestamp": START})]
    path = write_run(tmp_path, [run_record(project="p"), *rows, exit_record()])
    options = ["--fail-first", "100000", "--fail-codes", code, "--fail-on", "history"]
    with wandb_server(*options, "--retry-after", "0") as url:
        sync(url, tmp_path / "logs", path.parent)
        found, error = read(url, "wandb://fake-entity/p")
    assert not found
    assert f"HTTP {code}" in error
    assert "Try again later" in error


def test_runs_are_selected_before_their_rows_are_asked_for(server: str) -> None:
    before = requests(server).get("HistoryPage", 0)
    found, error = read(server, PROJECT, select=["status=failed"])
    assert (list(found), error) == (["labels"], "")
    assert requests(server)["HistoryPage"] == before + 1


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("wandb://fake-entity/nothing", "wandb://ENTITY/PROJECT|nothing"),
        (f"{PROJECT}/nothing", "Check the entity, the project and the run id"),
        ("wandb://golden", "expected wandb://ENTITY/PROJECT"),
        (f"{PROJECT}/id-empty", "without rows"),
    ],
)
def test_an_address_without_runs_is_one_message(server: str, location: str, why: str) -> None:
    found, error = read(server, location)
    assert not found
    assert any(part in error for part in why.split("|")), error
    assert "Traceback" not in error


def test_steps_with_gaps_take_few_requests(tmp_path: Path) -> None:
    steps = [0, 1_000_000, 2_000_000]
    rows = [row_record({"loss": 0.5, "_step": at, "_timestamp": START + at}) for at in steps]
    path = write_run(tmp_path, [run_record(project="p"), *rows, exit_record()])
    with wandb_server("--as-served") as url:
        sync(url, tmp_path / "logs", path.parent)
        found, error = read(url, "wandb://fake-entity/p")
        assert not error
        assert found["abc"]["steps"] == steps
        assert requests(url)["HistoryPage"] <= 10


def test_a_long_run_that_begins_late_is_whole(tmp_path: Path) -> None:
    steps = [*range(500, 12_500), *range(900_000, 900_010)]
    rows = [row_record({"loss": at + 0.5, "_step": at, "_timestamp": START + at}) for at in steps]
    path = write_run(tmp_path, [run_record(project="p"), *rows, exit_record()])
    with wandb_server() as url:
        sync(url, tmp_path / "logs", path.parent)
        found, error = read(url, "wandb://fake-entity/p")
        assert not error
        assert found["abc"]["steps"] == steps
        assert "rows-missing" not in found["abc"]["codes"]
        assert requests(url)["HistoryPage"] < 60


@pytest.mark.parametrize("code", ["429", "500"])
def test_a_server_that_fails_at_first_is_asked_again(code: str, tmp_path: Path) -> None:
    rows = [row_record({"loss": at + 0.5, "_step": at, "_timestamp": START + at}) for at in (0, 1)]
    path = write_run(tmp_path, [run_record(project="p"), *rows, exit_record()])
    options = ["--fail-first", "3", "--fail-codes", code, "--fail-on", "history"]
    with wandb_server(*options, "--retry-after", "0") as url:
        sync(url, tmp_path / "logs", path.parent)
        found, error = read(url, "wandb://fake-entity/p")
        assert not error
        assert found["abc"]["steps"] == [0, 1]
        assert requests(url)[f"fault{code}"] == 3
