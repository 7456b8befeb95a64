"""Pages of the documentation as scripts: their blocks, in order, in one shell on one folder.

`sh` and `python` blocks run, blocks with a title are written to that file, and of `console` blocks
the commands run and their output is what the page shows.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bounds import HANGS
from tests.support import REPOSITORY

BIN = Path(sys.executable).parent
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
INSTALL = "pip install '.[tensorboard,mlflow,postgresql,wandb,parquet]'"
LEFT_OUT = {"make test": "it would run this test", INSTALL: "this environment has it"}
DEMO = "make --no-print-directory demo READY=ready"  # whose environment is there already
MARK = "--- block %d"


@dataclass(frozen=True)
class Block:
    """A code block of a page: its language, the file it is to be written to, its text."""

    language: str
    file: str
    text: str

    @property
    def steps(self) -> list[tuple[str, str | None]]:
        """The commands, each with the output that the page shows for it (None: any)."""
        if self.file:
            return [(_written(self.file, self.text), None)]
        if self.language == "python":
            return [(f"{_written('page.py', self.text)}\npython page.py", None)]
        if self.language == "sh":
            lines = (line.partition("  #")[0].rstrip() for line in self.text.splitlines())
            return [(line, None) for line in lines if line and line not in LEFT_OUT]
        if self.language == "console":
            parts = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)[1:]
            return [(parts[at], parts[at + 1]) for at in range(0, len(parts), 2)]
        return []


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page."""
    return [Block(*found) for found in BLOCK.findall(page.read_text("utf-8"))]


def _written(file: str, text: str) -> str:
    return f"cat > {shlex.quote(file)} <<'END_OF_FILE'\n{text}END_OF_FILE"


def prepare(folder: Path) -> None:
    """Give a folder what a checkout has for its pages, with this environment as its `.venv`."""
    for name in ("Makefile", "pyproject.toml", "CITATION.cff"):
        if (REPOSITORY / name).exists():
            (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    (folder / "tests").mkdir()
    (folder / "tests" / "data").symlink_to(REPOSITORY / "tests" / "data")
    (folder / ".venv").symlink_to(BIN.parent)
    (folder / "ready").touch()


def run(
    page: Path,
    folder: Path,
    *,
    replacing: Mapping[str, str],
    environment: Mapping[str, str],
    is_activated: bool = True,
) -> Iterator[tuple[str, str | None, str]]:
    """Run the page; yields each command with the output that is shown and the one that it had."""
    steps = [step for block in blocks(page) for step in block.steps]
    lines = [". .venv/bin/activate"] if is_activated else []
    for number, (command, _) in enumerate(steps):
        for text, other in {"make demo": DEMO, **replacing}.items():
            command = command.replace(text, other)
        if command.startswith("bridge diff "):
            command += " || test $? -eq 1"  # they differ, which is no failure
        lines += [command, f"echo; echo '{MARK % number}'"]
    printed = re.split(r"\n--- block \d+\n", _shell("\n".join(lines), folder, environment))
    for (command, shown), output in zip(steps, printed, strict=False):
        yield command, shown, output


def _shell(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """The output of a script in a shell whose PATH lacks this environment."""
    path = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != BIN]
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", "PATH": os.pathsep.join(path), **environment},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nthe page failed here"
    return done.stdout


def shows(shown: str, output: str) -> bool:
    """Whether the output is what the page shows: a line `…` stands for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else re.escape(line) + r"\n"
        for line in _without_times(shown).strip().splitlines()
    )
    have = "".join(f"{line.rstrip()}\n" for line in _without_times(output).strip().splitlines())
    return re.fullmatch(pattern, have) is not None


def _without_times(text: str) -> str:
    return re.sub(r"(?:\d+\.\d\d|…) s$", "TIME", text, flags=re.MULTILINE)
