"""The texts name files, modules and make targets that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bridges
from tests.support import REPOSITORY

ROOTS = (REPOSITORY, REPOSITORY / "src" / "bridges", REPOSITORY / "docs")
PATH = re.compile(r"(?<![\w/.{}<>$~*:-])(?:[\w-]+/)+[\w-]+\.(?:py|md|ya?ml|toml)\b")
MODULE = re.compile(r"python3? -m (tests\.[\w.]+)")
TARGET = re.compile(r"(?:`|    )make ((?:[a-z-]+ ?)+)")
NAME = re.compile(r"`bridges\.(\w+)((?:\.\w+)*)`")
IN_TARGETS = {"key", "state"}  # tags of runs, not names of the package
TEXTS = [
    *REPOSITORY.glob("*.md"),
    *REPOSITORY.glob("docs/**/*.md"),
    *REPOSITORY.glob("configs/*.yaml"),
    *REPOSITORY.glob("src/**/*.py"),
    *(REPOSITORY / name for name in ("Makefile", "pyproject.toml", ".ci/run")),
]
ELSEWHERE = {
    "integrations/integration_utils.py",  # a module of transformers
    *("ROOT/EXPERIMENT/meta.yaml", "ROOT/EXPERIMENT/RUN/meta.yaml"),  # of MLflow's file stores
}


def named(pattern: re.Pattern[str]) -> dict[str, str]:
    """Each match, and the text that it is in."""
    return {found: str(path) for path in TEXTS for found in pattern.findall(path.read_text())}


def test_files_exist() -> None:
    paths = named(PATH).keys() - ELSEWHERE
    assert len(paths) > 30
    assert {path for path in paths if not any((root / path).exists() for root in ROOTS)} == set()


def test_modules_exist() -> None:
    modules = named(MODULE)
    assert len(modules) >= 3
    files = [Path(*module.rstrip(".").split(".")).with_suffix(".py") for module in modules]
    assert [file for file in files if not (REPOSITORY / file).exists()] == []


def test_make_targets_exist() -> None:
    rules = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    used = {target for match in named(TARGET) for target in match.split()}
    assert {"demo", "check", "test", "bench"} <= used <= {*rules}


@pytest.mark.parametrize(
    "text", ["CONTRIBUTING.md", "CHANGELOG.md", "docs/extend.md", "docs/faq.md"]
)
def test_names_of_the_package_exist(text: str) -> None:
    found = NAME.findall((REPOSITORY / text).read_text())
    assert found
    missing = []
    for first, rest in found:
        module = Path(REPOSITORY, "src", "bridges", first, *rest.split(".")[1:])
        is_module = module.is_dir() or module.with_suffix(".py").exists()
        if not (is_module or first in IN_TARGETS or hasattr(bridges, first)):
            missing.append(f"bridges.{first}{rest}")
    assert missing == []
