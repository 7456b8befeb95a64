"""The progress line of the Python functions: where it appears, and its text."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import bridges
from bridges import progress
from bridges.progress import Progress
from bridges.report import RunReport
from tests.bounds import HANGS
from tests.support import state

CELL = """
import bridges
from bridges import progress
progress.DELAY = progress.INTERVAL = 0
with open("migration.yaml", "w") as file:
    file.write("sources: [out/*]\\ntargets: [{to: tensorboard, logdir: there}]\\n")
"""


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    for name in "ab":
        folder = tmp_path / "out" / name
        folder.mkdir(parents=True)
        rows = [{"loss": float(ord(name)), "step": 1}]
        (folder / "trainer_state.json").write_bytes(state(rows, global_step=1))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_script_shows_nothing_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    for given in (None, False):
        bridges.export("out", to="tensorboard", logdir="runs", progress=given)
        assert capsys.readouterr() == ("", "")
    bridges.verify("out", to="tensorboard", logdir="runs", progress=True)
    out, error = capsys.readouterr()
    assert out == ""
    first, last = error.splitlines()  # without a terminal, a line from time to time
    assert first == "0 runs; reading out"
    assert last.startswith("2 runs, done in ")


def test_a_line_of_a_terminal_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    with suppress(KeyError), Progress(True) as line:
        line.plan(range(3))
        line.task("task")
        line.report(RunReport("s", "r", "memory", "failed"))
        line.phase("a\x1b[2J " + "long/" * 20, "writing")
        raise KeyError
    *_, before, last = screen.getvalue().split("\r\x1b[K")
    assert before.startswith("1 of 3 tasks, 1 run, 1 failed; writing ")
    assert "\x1b" not in before
    assert len(before) < 100
    assert last.startswith("1 of 3 tasks, 1 run, 1 failed, stopped in ")
    assert last.endswith(" s\n")


def shown(cell: str) -> list[str]:
    """The outputs of a cell that runs in a real notebook."""
    cells = [nbformat.v4.new_code_cell(text) for text in (CELL, cell)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=int(HANGS), resources={"metadata": {"path": str(Path.cwd())}}
    ).execute()
    return [output["data"]["text/plain"] for output in notebook.cells[1].outputs]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "start"),
    [
        ("bridges.export('out', to='tensorboard', logdir='runs')", "2 runs, done in "),
        ("bridges.migrate('migration.yaml')", "2 of 2 tasks, 2 runs, done in "),
    ],
)
def test_a_notebook_has_one_line(call: str, start: str) -> None:
    line, result = shown(call)
    assert line.startswith(start)
    assert result == "<BatchReport: 2 exported, exit code 0>"


@pytest.mark.slow
def test_a_notebook_without_a_line() -> None:
    call = "bridges.export('out', to='tensorboard', logdir='runs', progress=False)"
    assert shown(call) == ["<BatchReport: 2 exported, exit code 0>"]
