"""Local runs are read and exported by an interpreter that has no wandb package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bridges
from tests.wandb_runs import EARLY, RELEASES, unpack_runs

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "wandb":
            raise ModuleNotFoundError("No module named 'wandb'", name="wandb")

sys.meta_path.insert(0, Missing())
from bridges.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def bridge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command without the wandb package."""
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ})


@pytest.mark.parametrize("release", [EARLY, *RELEASES])
def test_local_runs_need_no_wandb(release: str, tmp_path: Path) -> None:
    folder = unpack_runs(release, tmp_path)
    done = bridge("export", folder, "--to", "parquet", "--out", tmp_path / "tables", "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert {(run["status"], run["verified"]) for run in runs} == {("exported", True)}
    assert len(runs) == len([*bridges.read(folder)])


def test_a_server_needs_it_and_says_how_to_install_it(tmp_path: Path) -> None:
    done = bridge("export", "wandb://me/vision", "--to", "tensorboard", "--logdir", tmp_path)
    assert done.returncode != 0
    assert "pip install 'tracker-bridges[wandb]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
