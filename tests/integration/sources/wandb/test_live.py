"""Runs that wandb's own client writes online: the same in their directories and on the server.

The server is our own (see `tests/fake_wandb`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.stream.model import Run
from tests.bounds import HANGS, until
from tests.integration.exporters.wandb.support import environment, wandb_server
from tests.integration.sources.wandb.test_server import described, read

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wandb-online")]

PROJECT = "wandb://fake-entity/live"
SCENARIOS = {
    "rewound": """
        begin("rewound", 0, 10)
        begin("rewound", 100, 103, resume_from="rewound?_step=4")
    """,
    "resumed": """
        begin("resumed", 0, 3, resume="allow", config={"part": 1})
        begin("resumed", 100, 102, resume="allow", config={"part": 2})
    """,
    "shared": """
        for number in (0, 1):
            begin("shared", 100 * number, 100 * number + 4, mode="shared")
    """,
    "synced": """
        from tensorboardX import SummaryWriter
        with wandb.init(id="synced", name="synced", project="live", sync_tensorboard=True):
            writer = SummaryWriter("events")
            for at in range(4):
                writer.add_scalar("loss", at + 0.5, 10 * at)
                writer.add_scalar("acc", at / 4, 10 * at)
            writer.close()
    """,
}
BEGIN = """
import time, wandb

def begin(name, first, stop, **options):
    with wandb.init(id=name, name=name, project="live", **options) as run:
        for value in range(first, stop):
            run.log({"loss": value + 0.5})
    time.sleep(1.1)  # the name of a directory has its second

if True:
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server and a directory with the runs of all scenarios."""
    folder = tmp_path_factory.mktemp("live")
    with wandb_server("--as-served") as url:
        for code in SCENARIOS.values():
            subprocess.run(
                [sys.executable, "-c", f"{BEGIN}{code}\nwandb.teardown()"],
                cwd=folder,
                env={**environment(url), "WANDB_SILENT": "true"},
                check=True,
                timeout=HANGS,
            )
        yield url, folder / "wandb"


@pytest.fixture(scope="module")
def local(server: tuple[str, Path]) -> dict[str, Run]:
    """The runs in the directory by name."""
    return {run.name: run for run in bridges.read(server[1])}


@pytest.fixture(scope="module")
def served(server: tuple[str, Path]) -> dict[str, dict[str, Any]]:
    """The runs on the server by name."""
    found, error = read(server[0], PROJECT)
    assert not error
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_is_the_same_in_its_directories_and_on_the_server(
    name: str, local: dict[str, Run], served: dict[str, dict[str, Any]]
) -> None:
    expected = described(local[name])
    for what in ("identity", "style", "labels", "params", "steps", "rows"):
        assert served[name][what] == expected[what], what


def test_rows_behind_a_rewind_are_left_out(local: dict[str, Run]) -> None:
    run = local["rewound"]
    assert run.stream.column("loss")[1].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 100.5, 101.5, 102.5]
    assert run.stream.step.tolist() == [*range(8)]
    counts = {finding.code: finding.count for finding in run.findings}
    assert counts["rows-rewound"] == 5
    assert not {"forked-run", "resumed-overlap"} & {*counts}


def test_an_online_resume_goes_on(local: dict[str, Run]) -> None:
    run = local["resumed"]
    assert run.stream.column("loss")[1].tolist() == [0.5, 1.5, 2.5, 100.5, 101.5]
    assert run.stream.step.tolist() == [*range(5)]
    assert run.params == {"part": 2}
    assert not {"resumed-steps", "resumed-overlap"} & {finding.code for finding in run.findings}


def test_the_rows_of_all_writers_are_numbered_by_time(local: dict[str, Run]) -> None:
    run = local["shared"]
    values = [0.5, 1.5, 2.5, 3.5, 100.5, 101.5, 102.5, 103.5]
    assert run.stream.column("loss")[1].tolist() == values
    assert run.stream.step.tolist() == [*range(8)]
    assert "shared-no-step" in {finding.code for finding in run.findings}


def test_a_run_synced_from_event_files_has_their_steps(local: dict[str, Run]) -> None:
    run = local["synced"]
    for key in ("loss", "acc"):
        rows, values = run.stream.column(key)
        assert run.stream.step[rows].tolist() == [0, 10, 20, 30]
        assert len(values) == 4


WRITER = """
import sys, time, wandb

with wandb.init(id="grows", project="live", mode="offline") as run:
    for at in range(60):
        run.log({"loss": at + 0.5})
        time.sleep(0.1)
wandb.teardown()
"""


def test_a_run_is_followed_while_the_client_writes_it(tmp_path: Path) -> None:
    quiet = {"WANDB_SILENT": "true", "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
    env = {**environment("http://127.0.0.1:9"), **quiet}
    target = ["--to", "tensorboard", "--logdir", str(tmp_path / "events"), "--json"]
    with subprocess.Popen([sys.executable, "-c", WRITER], cwd=tmp_path, env=env) as writer:
        until(lambda: bool([*tmp_path.glob("wandb/*/run-grows.wandb")]), writer)
        following = [*COMMAND, str(tmp_path / "wandb"), *target, "--follow", "--idle-timeout", "60"]
        done = subprocess.run(following, capture_output=True, text=True, timeout=HANGS)
        assert writer.wait() == 0
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["rows"], run["verified"]) == (60, True)
    (report,) = json.loads(_export(tmp_path / "wandb", target))["runs"]
    assert (report["status"], report["rows"]) == ("unchanged", 60)


COMMAND = [sys.executable, "-m", "bridges", "export"]


def _export(folder: Path, target: list[str]) -> str:
    done = subprocess.run(
        [*COMMAND, str(folder), *target], capture_output=True, text=True, check=True
    )
    return done.stdout
