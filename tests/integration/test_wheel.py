"""The built wheel in fresh environments: alone, and with the trackers as a newcomer installs it."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bridges import __version__
from tests.integration.docs import pages
from tests.servers import missing
from tests.support import DATA, REPOSITORY

pytestmark = pytest.mark.slow

STATE = DATA / "groundtruth" / "steps_eval_predict" / "trainer_state.json"
DATA_FILES = {"bridges/py.typed", "bridges/findings.toml", "bridges/migration/reports/report.html"}
MANUAL = f"tracker_bridges-{__version__}.data/data/share/man/man1"
NO_INDEX = re.compile(r"No matching distribution|NewConnectionError|Network is unreachable")


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
    return installed(str(wheel), tmp_path_factory.mktemp("environment"))


def installed(requirement: str, folder: Path) -> Path:
    """The scripts of a new environment with a requirement."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", requirement]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode and NO_INDEX.search(done.stderr):
        missing("the package index", f"connect this machine to it\n{done.stderr}")
    assert done.returncode == 0, done.stderr
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
    pages_of_man = {f"{MANUAL}/bridge.1", f"{MANUAL}/bridges.1"}
    assert {name for name in names if not name.startswith("bridges/")} == pages_of_man
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_the_index_can_show_the_readme(wheel: Path) -> None:
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    metadata = email.message_from_bytes(zipfile.ZipFile(wheel).read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = MarkdownIt().enable("table").render(str(metadata.get_payload()))
    assert "<h1>bridges</h1>" in page
    assert "<table>" in page
    assert [link for link in re.findall(r'(?:href|src)="([^"]*)"', page) if "://" not in link] == []


@pytest.mark.parametrize("name", ["bridge", "bridges"])
def test_man_finds_the_page_of_the_environment(name: str, scripts: Path, tmp_path: Path) -> None:
    if shutil.which("man") is None:
        missing("man", "install man-db")
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    found = subprocess.run(
        ["man", "-w", "-s", "1", name], env={"PATH": path}, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()).parent == scripts.parent / "share" / "man" / "man1"


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


def test_a_newcomer_gets_through_the_quickstart(wheel: Path, tmp_path: Path) -> None:
    """From a fresh clone, with an environment and a home directory of its own."""
    environment = tmp_path / "environment"
    installed(f"{wheel}[tensorboard,mlflow,postgresql,wandb]", environment)
    clone, home = tmp_path / "bridges", tmp_path / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, clone], check=True)
    (clone / ".venv").symlink_to(environment)
    (clone / "ready").touch()
    page = clone / "docs" / "quickstart.md"
    variables = {"HOME": str(home), "XDG_CACHE_HOME": ""}
    done = [*pages.run(page, clone, replacing={}, environment=variables, is_activated=False)]
    assert len(done) > 10
    for command, shown, output in done:
        assert shown is None or pages.shows(shown, output), f"{command}\n{output}"
