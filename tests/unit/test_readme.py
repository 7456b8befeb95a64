"""The README keeps its promises: its commands run, its Python runs, its first screen is real."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from bridges.errors import DISTRIBUTION, MissingDependencyError
from bridges.exporters.tensorboard.exporter import ALL_POINTS
from tests.support import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


LINES = [line for block in blocks("sh") for line in block.splitlines() if line]
COMMANDS = [line.partition("  #")[0].rstrip() for line in LINES]
INSTALL = "pip install '.[tensorboard,mlflow,postgresql,wandb]'"  # what this environment has
BIN = Path(sys.executable).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the commands need of a fresh clone, with this environment as its `.venv`."""
    for name in ("configs", "Makefile", "pyproject.toml"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(BIN.parent)
    return tmp_path


def shell(script: str, folder: Path) -> str:
    """The output of a script, in a shell whose PATH lacks this environment."""
    path = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != BIN]
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def demo(folder: Path) -> str:
    """The output of `make demo`, which finds its environment ready."""
    (folder / "ready").touch()
    return shell("make --no-print-directory demo READY=ready", folder)


def test_every_command_runs_in_the_order_of_the_readme(folder: Path) -> None:
    """As typed into one shell, from `make demo` on, in one directory."""
    assert COMMANDS[:2] == ["make demo", ". .venv/bin/activate"]
    assert demo(folder).splitlines()[-1] == COMMANDS[1]
    rest = [command for command in COMMANDS[2:] if command != INSTALL]
    assert len(rest) >= 7
    assert {command.split()[0] for command in rest} <= {"bridge", "cat"}
    marked = [f"{command}; echo '--- {number}'" for number, command in enumerate(rest)]
    printed = shell("\n".join([COMMANDS[1], *marked]), folder)
    parts = re.split(r"^--- \d+$", printed, flags=re.MULTILINE)
    assert [rest[number] for number, part in enumerate(parts[:-1]) if not part.strip()] == []


@pytest.mark.parametrize(
    ("config", "statuses"),
    [
        ("one-run", {"tensorboard": ("unchanged", True)}),
        ("fan-out", dict.fromkeys(("tensorboard", "mlflow", "wandb"), ("exported", True))),
    ],
)
def test_the_examples_run_after_the_demo(
    config: str, statuses: dict[str, tuple[str, bool]], folder: Path
) -> None:
    """`fan-out` has another W&B project in the folder of the demo."""
    demo(folder)
    command = f"bridges migrate configs/{config}.yaml --json"
    runs = json.loads(shell(f"{COMMANDS[1]}; {command}", folder))["runs"]
    assert {run["target"]: (run["status"], run["verified"]) for run in runs} == statuses


def test_the_demo_can_be_repeated(folder: Path) -> None:
    assert demo(folder).count("✓ exported") == 3
    assert demo(folder).count("= unchanged") == 3


def test_the_package_has_a_name_of_its_own() -> None:
    """`bridges` on the package index is another project: no message may name it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert project["name"] == DISTRIBUTION == "tracker-bridges"
    assert set(project["scripts"]) == {"bridge", "bridges"}
    named = re.compile(r"\b(?<![\w-])bridges\[|pip install '?bridges\b")
    patterns = ("src/**/*.py", "docs/**/*.md", "configs/*.yaml", "README.md", "CONTRIBUTING.md")
    texts = [path for pattern in patterns for path in REPOSITORY.glob(pattern)]
    assert [path for path in texts if named.search(path.read_text())] == []
    wanted = [part for extra in extras.values() for part in extra if "bridges[" in part]
    assert all(part.startswith(f"{DISTRIBUTION}[") for part in wanted)
    used = re.findall(r"MissingDependencyError\([^,]+, \"(\w+)\"\)|pip_line\('(\w+)'\)", sources())
    assert {one or other for one, other in used} == {"mlflow", "wandb", "dask", "postgresql"}
    assert {one or other for one, other in used} <= set(extras)
    assert "pip install 'tracker-bridges[wandb]'" in str(MissingDependencyError("wandb", "wandb"))


def sources() -> str:
    return "".join(path.read_text() for path in REPOSITORY.glob("src/**/*.py"))


def test_the_first_screen_is_what_is_printed(folder: Path) -> None:
    command, *shown = blocks("console")[0].splitlines()
    command = command.removeprefix("$ ")
    printed = shell(f". .venv/bin/activate; {command}", folder).splitlines()
    assert [_without_time(line) for line in printed] == [_without_time(line) for line in shown]


def _without_time(line: str) -> str:
    return re.sub(r"\d+\.\d\d s$", "… s", line)


def test_the_python_runs(folder: Path) -> None:
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=folder, check=True)


def test_the_option_of_tensorboard_is_the_printed_one() -> None:
    assert f"`--samples_per_plugin scalars={ALL_POINTS}`" in README


def test_the_changelog_is_of_this_version() -> None:
    from bridges import __version__

    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
