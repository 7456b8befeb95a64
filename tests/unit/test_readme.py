"""The README keeps its promises: its commands run, its Python runs, its first screen is real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith(("bridge", "cat"))
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    return tmp_path


def shell(command: str, folder: Path) -> str:
    """The output of a command; `bridge` is the one of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_command_runs(folder: Path) -> None:
    assert len(COMMANDS) >= 7
    for command in COMMANDS:
        assert shell(command, folder), command


def test_the_first_screen_is_what_is_printed(folder: Path) -> None:
    command, *shown = blocks("console")[0].splitlines()
    printed = shell(command.removeprefix("$ "), folder).splitlines()
    assert [_without_time(line) for line in printed] == [_without_time(line) for line in shown]


def _without_time(line: str) -> str:
    return re.sub(r"\d+\.\d\d s$", "… s", line)


def test_the_python_runs(folder: Path) -> None:
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=folder, check=True)


def test_the_changelog_is_of_this_version() -> None:
    from bridges import __version__

    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
