"""`bridge view` starts a real TensorBoard and MLflow, which serve what an export wrote."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.bounds import HANGS, until
from tests.servers import free_port
from tests.support import DATA

pytestmark = pytest.mark.slow

BRIDGE = [sys.executable, "-m", "bridges"]


@pytest.mark.parametrize(
    ("target", "place", "path", "expected"),
    [
        ("tensorboard", "runs", "/data/plugin/scalars/tags", "train/loss"),
        ("mlflow", "mlflow.db", "/", "MLflow"),
    ],
)
def test_a_viewer_serves_the_target(
    tmp_path: Path, target: str, place: str, path: str, expected: str
) -> None:
    export = [*BRIDGE, "export", str(DATA / "seed.txt"), "--to", target]
    subprocess.run(export, cwd=tmp_path, check=True, capture_output=True)
    port = free_port()
    view = [*BRIDGE, "view", place, "--port", str(port)]
    child = subprocess.Popen(
        view, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: expected in served(f"http://127.0.0.1:{port}{path}"), child)
    finally:
        child.send_signal(signal.SIGINT)
        assert child.wait(HANGS) == 0
    until(lambda: served(f"http://127.0.0.1:{port}{path}") == "")  # its server has ended, too


def served(address: str) -> str:
    """The text at an address; empty as long as nobody answers."""
    try:
        with urllib.request.urlopen(address) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""
