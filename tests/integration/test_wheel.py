"""The built wheel in a fresh environment: the command works without trackers and sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bridges import __version__
from tests.support import DATA, REPOSITORY

pytestmark = pytest.mark.slow

STATE = DATA / "groundtruth" / "steps_eval_predict" / "trainer_state.json"
DATA_FILES = {"bridges/py.typed", "bridges/findings.toml", "bridges/migration/reports/report.html"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that has the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return folder / "bin"


def run(command: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    return subprocess.run(
        [str(command), *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_the_wheel_has_its_data_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"tracker_bridges-{__version__}-py3-none-any.whl"
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names >= DATA_FILES
    assert {name.partition("/")[0] for name in names} == {"bridges"}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


@pytest.mark.parametrize("name", ["bridge", "bridges"])
def test_the_command_of_a_fresh_environment(name: str, scripts: Path, tmp_path: Path) -> None:
    shown = run(scripts / name, "--version", cwd=tmp_path)
    assert shown.stdout == f"bridge {__version__}\ntrackers: none installed\n"
    for arguments in (["inspect", str(STATE)], ["schema"]):
        done = run(scripts / name, *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    target = ["--to", "tensorboard", "--logdir", "runs"]
    done = run(scripts / name, "export", str(STATE), *target, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (exported,) = json.loads(done.stdout)["runs"]
    assert exported["verified"]
    assert run(scripts / name, "verify", str(STATE), *target, cwd=tmp_path).returncode == 0


def test_a_tracker_that_is_missing_is_named_with_the_line_to_type(
    scripts: Path, tmp_path: Path
) -> None:
    done = run(scripts / "bridge", "export", str(STATE), "--to", "wandb", "--mode", "online",
               cwd=tmp_path)  # fmt: skip
    assert done.returncode != 0
    assert "pip install 'tracker-bridges[wandb]'" in done.stdout + done.stderr
