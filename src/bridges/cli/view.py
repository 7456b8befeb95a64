"""The command `bridge view`: starts the viewers of targets and waits until they end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Sequence

import click

from bridges.cli.console import printable
from bridges.cli.signals import interrupts
from bridges.errors import MissingDependencyError
from bridges.views.viewers import Viewer, viewers

MODULES = {"tensorboard": "tensorboard.main", "mlflow": "mlflow"}  # for `python -m`


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
    started: list[subprocess.Popen[bytes]] = []
    with interrupts():
        try:
            for viewer, command in commands:
                click.secho(printable(viewer.shown), bold=True, err=True)
                environment = {**os.environ, **viewer.environment}
                started.append(subprocess.Popen(command, env=environment, start_new_session=True))
            for viewer in found:
                if viewer.page:
                    _open(viewer.page)
            return next(filter(None, [each.wait() for each in started]), 0)
        except KeyboardInterrupt:
            return 0  # the usual way to end a viewer
        finally:
            _stop(started)


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


def _stop(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the running viewers with their servers."""
    for each in started:
        if each.poll() is not None:
            continue
        if os.name == "posix":
            os.killpg(each.pid, signal.SIGTERM)
        else:
            each.terminate()
    for each in started:
        each.wait()
