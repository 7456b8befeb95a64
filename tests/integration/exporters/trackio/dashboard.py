"""Trackio's own dashboard: `trackio show`, and the requests that its page makes."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bounds import HANGS
from tests.servers import HOST, Owner, folder_of, guarded, on_a_free_port, wait_for, without

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "BROWSER": "true"}


@dataclass(frozen=True)
class Dashboard:
    """A running dashboard."""

    url: str

    def ask(self, name: str, **arguments: Any) -> Any:
        """The answer to a request of the page."""
        data = json.dumps(arguments).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api/{name}", data, headers)
        with urllib.request.urlopen(request, timeout=HANGS) as response:
            return json.load(response)["data"]

    @property
    def is_up(self) -> bool:
        try:
            return isinstance(self.ask("get_all_projects"), list)
        except OSError:
            return False


@contextlib.contextmanager
def dashboard(folder: Path, *more: str) -> Iterator[Dashboard]:
    """Run `trackio show` on a directory of projects, for the block."""

    def start(port: int, stack: contextlib.ExitStack) -> Dashboard:
        place = stack.enter_context(folder_of(Owner(), "trackio"))
        ports = {"GRADIO_SERVER_PORT": str(port), "GRADIO_NUM_PORTS": "1"}
        environment = {**without("TRACKIO_"), **OFFLINE, **ports, "TRACKIO_DIR": str(folder)}
        command = [sys.executable, "-m", "trackio.cli", "show", "--host", HOST, *more]
        stack.enter_context(
            guarded(command, place, owner=Owner(), stop=signal.SIGTERM, environment=environment)
        )
        made = Dashboard(f"http://{HOST}:{port}")
        wait_for(lambda: made.is_up, place)
        return made

    with on_a_free_port(start) as made:
        yield made
