"""The command `bridge view`: starts the viewers of targets and waits until they end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import click

from bridges.cli.console import printable
from bridges.errors import MissingDependencyError
from bridges.views.viewers import Viewer, viewers

MODULES = {
    "tensorboard": "tensorboard.main",
    "mlflow": "mlflow",
    "trackio": "trackio.cli",
}  # for `python -m`


def view(targets: Sequence[str], port: int | None, dry_run: bool) -> int:
    """Start the viewers of these targets. Returns the first exit code but 0.

    `dry_run` prints their commands only. Raises ConfigError and MissingDependencyError.
    """
    found = viewers(targets, port)
    if dry_run:
        for viewer in found:
            click.echo(printable(viewer.shown))
        return 0
    commands = [(viewer, _command(viewer)) for viewer in found if viewer.program]
    with _running() as running:
        for viewer, command in commands:
            click.secho(printable(viewer.shown), bold=True, err=True)
            running.start(command, {**os.environ, **viewer.environment})
        for viewer in found:
            if viewer.page:
                _open(viewer.page)
        return running.wait()


def _command(viewer: Viewer) -> list[str]:
    """The command of a viewer: of this environment, else of the path."""
    module = MODULES[viewer.program]
    if importlib.util.find_spec(viewer.program) is not None:
        return [sys.executable, "-m", module, *viewer.arguments]
    program = shutil.which(viewer.program)
    if program is None:
        raise MissingDependencyError(viewer.program, viewer.program)
    return [program, *viewer.arguments]


def _open(page: str) -> None:
    """Open a page in the browser, or print its address if there is none."""
    click.echo(printable(page), err=True)
    webbrowser.open(page)


class _Running:
    """Viewers in sessions of their own, which a signal ends with their servers.

    The signal handler ends them itself: an exception could be raised in the middle of a start, or
    where Python ignores it.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []
        self._is_ended = False

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a viewer."""
        viewer = subprocess.Popen(command, env=environment, start_new_session=True)
        self._started.append(viewer)
        if self._is_ended:  # by a signal during the start
            self.end()

    def wait(self) -> int:
        """Wait for all viewers. Returns the first exit code but 0, and 0 if a signal ended them."""
        codes = [viewer.wait() for viewer in self._started]
        return 0 if self._is_ended else next(filter(None, codes), 0)

    def end(self, number: int = 0, frame: object = None) -> None:
        """End the viewers; the signal handler."""
        self._is_ended = True
        for viewer in self._started:
            if viewer.poll() is not None:
                continue
            if os.name != "posix":
                viewer.terminate()
            else:
                with suppress(ProcessLookupError):
                    os.killpg(viewer.pid, signal.SIGTERM)


@contextmanager
def _running() -> Iterator[_Running]:
    """Viewers, ended with the block and at SIGINT and SIGTERM."""
    running = _Running()
    before = {kind: signal.signal(kind, running.end) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield running
    finally:
        running.end()
        running.wait()
        for kind, handler in before.items():
            signal.signal(kind, handler)
