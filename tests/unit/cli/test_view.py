"""`bridge view`: prints or starts the viewer of a target, and ends it with itself."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest

from bridges.cli import view
from bridges.cli.main import run as bridge
from tests.bounds import HANGS

# a program that waits, in place of the viewer
WAITS = "import sys, time; print('up', *sys.argv[1:], flush=True); time.sleep(3600)"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "events.out.tfevents.1").touch()
    (tmp_path / "page.html").touch()


def test_a_dry_run_prints_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge(["view", "runs", "--port", "7000", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tensorboard --logdir runs ")
    assert out.endswith(" --port 7000\n")
    assert bridge(["view", "nothing", "--dry-run"]) == 2


def test_a_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert bridge(["view", "page.html"]) == 0
    assert opened == [(tmp_path / "page.html").as_uri()]


def test_a_viewer_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    assert bridge(["view", "runs"]) == 1
    assert "pip install 'tracker-bridges[tensorboard]'" in capsys.readouterr().err


def test_the_exit_code_is_that_of_the_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = [sys.executable, "-c", "raise SystemExit(3)"]
    monkeypatch.setattr(view, "_command", lambda viewer: fails)
    assert bridge(["view", "runs"]) == 3


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_viewer_ends_with_the_command(tmp_path: Path, kind: signal.Signals) -> None:
    code = (
        "import sys\n"
        "from bridges.cli import view\n"
        f"view._command = lambda viewer: [sys.executable, '-c', {WAITS!r}, *viewer.arguments]\n"
        "sys.exit(view.view(['runs'], None, False))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline().startswith("up --logdir runs")
    child.send_signal(kind)
    assert child.wait(HANGS) == 0
    assert child.stdout.read() == ""  # the viewer has ended too: it held the other end
