"""The progress line of the Python functions: one line that changes, in a notebook or on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Protocol
from uuid import uuid4

from bridges.report import RunReport
from bridges.stream.redact import redact_message

DELAY = 1.0  # seconds before the line appears
INTERVAL = 0.2  # seconds between its changes
MAX_NAME_CHARS = 50
PLAIN_INTERVAL = 10.0  # the same where a line cannot change, such as in a log file


class _Line(Protocol):
    """A line of text that can be replaced. `interval` is the least time between changes."""

    interval: float

    def show(self, text: str, *, is_last: bool = False) -> None:
        """Show another text; the last one stays."""


class Progress:
    """A context manager with callbacks that update the line.

    `is_shown`: None shows the line only in a notebook. The last text remains, with the counts.
    """

    def __init__(self, is_shown: bool | None) -> None:
        self._line = _line(is_shown)
        self._started = time.monotonic()
        self._next = self._started + DELAY
        self._is_visible = False
        self._done = self._failed = self._tasks = self._total = 0
        self._phase = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._line is not None and self._is_visible:
            ending = "stopped" if error else "done"
            seconds = time.monotonic() - self._started
            self._line.show(f"{self._counts()}, {ending} in {seconds:.1f} s", is_last=True)

    def phase(self, run: str, phase: str) -> None:
        """Show the current phase and run."""
        shown = "".join(char for char in redact_message(run) if char.isprintable())
        self._phase = f"; {phase} {shown[-MAX_NAME_CHARS:]}"
        self._update()

    def report(self, report: RunReport) -> None:
        """Count the report of a run and target."""
        self._done += 1
        self._failed += report.failed
        self._update()

    def plan(self, tasks: Sequence[object]) -> None:
        """Set the tasks, if they are known."""
        self._total = len(tasks)
        self._update()

    def task(self, _: object) -> None:
        """Count a finished task."""
        self._tasks += 1
        self._update()

    def _counts(self) -> str:
        """The counts; a run counts once for each target."""
        share = f"{self._tasks:,} of {self._total:,} tasks, " if self._total else ""
        failed = f", {self._failed:,} failed" if self._failed else ""
        return f"{share}{self._done:,} run{'s' * (self._done != 1)}{failed}"

    def _update(self) -> None:
        now = time.monotonic()
        if self._line is None or now < self._next:
            return
        self._next = now + self._line.interval
        self._is_visible = True
        self._line.show(f"{self._counts()}{self._phase}")


class _NotebookLine:
    """An output of the current cell, replaced by its id."""

    interval = INTERVAL

    def __init__(self, display: ModuleType) -> None:
        self._display = display
        self._id = ""

    def show(self, text: str, *, is_last: bool = False) -> None:
        """Replace the output; also from other threads, and after the cell has ended."""
        show = self._display.update_display if self._id else self._display.display
        self._id = self._id or uuid4().hex
        show({"text/plain": text}, raw=True, display_id=self._id)


class _ErrorLine:
    """A line on stderr; without a terminal, a new line from time to time."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self.interval = INTERVAL if self._is_terminal else PLAIN_INTERVAL

    def show(self, text: str, *, is_last: bool = False) -> None:
        """Replace the line on a terminal, else print one more."""
        start, end = ("\r\x1b[K", "\n" * is_last) if self._is_terminal else ("", "\n")
        sys.stderr.write(f"{start}{text}{end}")
        sys.stderr.flush()


def _line(is_shown: bool | None) -> _Line | None:
    display = _notebook_display()
    if is_shown is False or (is_shown is None and display is None):
        return None
    return _NotebookLine(display) if display else _ErrorLine()


def _notebook_display() -> ModuleType | None:
    """The display functions of IPython if this code runs in a notebook; imports nothing else."""
    ipython = sys.modules.get("IPython")
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    return import_module("IPython.display")
