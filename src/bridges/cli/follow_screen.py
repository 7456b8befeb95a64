"""The stderr output of `--follow`: a line for each append, and a live status line."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from bridges.cli.console import Progress, RunLines, count_noun, printable
from bridges.pipeline.follow import Waiting
from bridges.report import RunReport

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


class FollowLine(Progress):
    """A context manager that prints the appends and the live status line.

    `verbose` also prints the errors of unreadable states.
    """

    def __init__(self, quiet: bool, verbose: bool) -> None:
        super().__init__(0, quiet)
        self._verbose = verbose
        self._lines = RunLines(verbose=False)
        self._reported: set[str] = set()
        self._waiting: Waiting | None = None
        self._since = 0.0

    def begin(self, locations: Sequence[str]) -> None:
        """Print the locations and the way to stop."""
        shown = ", ".join(locations[:3]) + (" …" if len(locations) > 3 else "")
        self._note(
            f"following {printable(shown)}: press Ctrl-C to stop, rerun the command to continue"
        )

    def end(self, reason: str) -> None:
        """Print the reason for the end."""
        self._note(f"following ended: {reason}")

    def append(self, report: RunReport) -> None:
        """Print the line of a written run, with its findings if it failed."""
        shown = report if report.status == "failed" else replace(report, findings=())
        self._note(f"{time.strftime('%H:%M:%S')} {self._lines.of(shown)}")

    def phase(self, run: str, phase: str) -> None:
        """Set the current phase and run."""
        self._waiting = None
        super().phase(run, phase)

    def wait(self, waiting: Waiting) -> None:
        """Set the status until the next poll."""
        self._since = time.monotonic() - waiting.idle
        self._waiting = waiting
        if self._verbose:
            messages = dict.fromkeys(report.findings[-1].message for report in waiting.failures)
            for message in messages:
                if message not in self._reported:
                    self._note(f"{time.strftime('%H:%M:%S')} not yet: {printable(message)}")
            self._reported = set(messages)

    def _note(self, text: str) -> None:
        if self._quiet:
            return
        if self._live is None:
            click.echo(text, err=True)
            return
        from rich.text import Text

        self._live.console.print(Text.from_ansi(text), soft_wrap=True)

    def _show(self) -> None:
        if sys.stderr.isatty():
            self._show_live()

    def _columns(self) -> Sequence[ProgressColumn]:
        from rich.progress import SpinnerColumn

        return (SpinnerColumn(),)

    def _line(self) -> str:
        waiting = self._waiting
        return waiting_line(waiting, time.monotonic() - self._since) if waiting else self.text


def waiting_line(waiting: Waiting, idle: float) -> str:
    """The status line: unfinished runs, and the seconds since the last change."""
    runs = waiting.runs
    if len(runs) == 1:
        head = f"{printable(runs[0].name)}, {count_noun(runs[0].rows, 'row')}"
    else:
        rows = count_noun(sum(run.rows for run in runs), "row")
        head = (
            f"{count_noun(len(runs), 'run')}, {waiting.over} finished, {rows}" if runs else "a run"
        )
    failing = {report.source for report in waiting.failures}
    broken = f"; not readable or writable yet: {printable(min(failing))}" if failing else ""
    more = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
    return f"waiting for {head}; last change {idle:.0f} s ago{broken}{more}"
