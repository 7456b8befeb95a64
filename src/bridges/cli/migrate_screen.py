"""Terminal output of a running migration: progress by target, and the JSON document."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from bridges.cli.console import Progress, json_text, printable
from bridges.migration.tasks import Task
from bridges.report import RunReport

if TYPE_CHECKING:
    from rich.console import JustifyMethod, RenderableType
    from rich.table import Table

WINDOW_SECONDS = 30.0  # of the moving average of rates
REFRESH_SECONDS = 0.25
MAX_LABEL, MAX_NAME, MAX_BAR = 16, 30, 40  # columns of a target, a run's name and a bar


@dataclass
class Count:
    """The progress of a target: total tasks, finished tasks and finished runs.

    Call `record` before each display; its times are seconds of a monotonic clock.
    """

    label: str
    total: int = 0
    done: int = 0
    runs: int = 0
    _past: deque[tuple[float, int, int]] = field(default_factory=deque)

    def record(self, now: float) -> None:
        """Record the current counts, and drop counts older than the window.

        The window is longer if no task finished in it.
        """
        past = self._past
        if len(past) > 1 and past[-1][1:] == past[-2][1:] == (self.done, self.runs):
            past.pop()
        past.append((now, self.done, self.runs))
        while len(past) > 2 and past[1][0] <= now - WINDOW_SECONDS and past[1][1] < self.done:
            past.popleft()

    @property
    def rate(self) -> float:
        """The recent rate in runs per second."""
        return self._speeds()[1]

    @property
    def left(self) -> float | None:
        """The estimated seconds to the end at the recent speed; None if unknown."""
        if self.done >= self.total:
            return 0.0
        speed = self._speeds()[0]
        return (self.total - self.done) / speed if speed else None

    def _speeds(self) -> tuple[float, float]:
        """Tasks and runs per second within the window."""
        if len(self._past) < 2:
            return 0.0, 0.0
        (begin, *before), (end, *after) = self._past[0], self._past[-1]
        tasks, runs = ((b - a) / max(end - begin, 1e-9) for a, b in zip(before, after, strict=True))
        return tasks, runs


class MigrationProgress(Progress):
    """A context manager that shows the progress of the targets of a migration.

    On a terminal it shows a bar for each target, a bar for all, and the last failure, otherwise a
    plain line every ten seconds. Bars count tasks, which contain any number of runs; rates count
    runs.
    """

    def __init__(self, quiet: bool) -> None:
        super().__init__(0, quiet)
        self._targets: dict[str, Count] = {}
        self._all = Count("all")
        self._failed, self._last = 0, ""

    def plan(self, tasks: Iterable[Task]) -> None:
        """Set the tasks of the migration."""
        targets: dict[str, Count] = {}
        for task in tasks:
            for target in task.targets:
                targets.setdefault(target.label, Count(target.label)).total += 1
        self._all.total = sum(count.total for count in targets.values())
        now = time.monotonic()
        for count in (self._all, *targets.values()):
            count.record(now)
        self._targets = targets  # one assignment, as another thread reads it

    def task(self, task: Task) -> None:
        """Count a finished task for its targets."""
        for target in task.targets:
            self._targets[target.label].done += 1
            self._all.done += 1

    def report(self, report: RunReport) -> None:
        """Count a finished run and target."""
        if report.target in self._targets:
            self._targets[report.target].runs += 1
            self._all.runs += 1
        if report.failed:
            self._failed += 1
            self._last = failure_line(report)

    def _counts(self) -> list[Count]:
        """The displayed counts; the first one is the sum if several targets exist."""
        counts = [*self._targets.values()]
        shown = [self._all, *counts] if len(counts) > 1 else counts
        now = time.monotonic()
        for count in shown:
            count.record(now)
        return shown

    def _left(self, count: Count) -> str:
        """The time left; the sum takes as long as the slowest target."""
        counts = self._targets.values() if count is self._all else (count,)
        lefts = [each.left for each in counts]
        known = [left for left in lefts if left is not None]
        return time_left(max(known) if len(known) == len(lefts) else None)

    def _plain(self, seconds: float) -> str:
        shown = self._counts()
        if not shown:
            return f"{self.text} ({seconds:.0f} s)"
        first = shown[0]
        done = ", ".join(
            f"{printable(each.label)} {each.done:,}/{each.total:,}"
            for each in shown[-len(self._targets) :]
        )
        failed = f"; {failed_text(self._failed)}" if self._failed else ""
        return f"{done}; {rate_text(first.rate)}, {self._left(first)}{failed} ({seconds:.0f} s)"

    def _show_live(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        console, spinner = Console(stderr=True), Spinner("dots", self.text)
        with Live(
            spinner, console=console, transient=True, auto_refresh=False, redirect_stdout=False
        ) as live:
            self._live = live
            while not self._stop.wait(REFRESH_SECONDS):
                spinner.update(text=self.text)
                live.update(self._screen(console.width) if self._targets else spinner, refresh=True)
            self._live = None

    def _screen(self, width: int) -> RenderableType:
        """The bars, and the last failure below them."""
        from rich.console import Group
        from rich.text import Text

        bars = self._bars(self._counts(), width)
        if not self._failed:
            return bars
        line = Text.assemble((failed_text(self._failed), "red"), "  ", self._last)
        line.no_wrap, line.overflow = True, "ellipsis"
        return Group(bars, line)

    def _bars(self, counts: list[Count], width: int) -> Table:
        """A row for each count; column widths are fixed from the start."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        label = min(MAX_LABEL, max(len(count.label) for count in counts))
        done = max(len(f"{count.total:,}") for count in counts) * 2 + 1
        others = (0, done, len("100,000 runs/s"), len("100:00:00 left"))
        padding = 2 * (len(others) + 1)  # rich before 14.3 counts that of the last column too
        room = width - sum(others) - padding  # for label and bar
        label = max(1, min(label, room - 1))  # figures have priority
        bar = max(1, min(MAX_BAR, room - label))
        widths = (label, *others)
        table = Table.grid(padding=(0, 2, 0, 0))
        for number, wide in enumerate(widths):
            justify: JustifyMethod = "left" if number < 2 else "right"
            table.add_column(width=wide or bar, justify=justify, no_wrap=True, overflow="ellipsis")
        for count in counts:
            table.add_row(
                Text(printable(count.label)),
                ProgressBar(total=max(1, count.total), completed=count.done, width=bar),
                f"{count.done:,}/{count.total:,}",
                rate_text(count.rate) if count.left != 0.0 else "",
                self._left(count),
            )
        return table


def rate_text(rate: float) -> str:
    """Runs per second, as in `12.3 runs/s` and `1,234 runs/s`."""
    return f"{rate:,.{1 if rate < 1_000 else 0}f} runs/s"


def time_left(seconds: float | None) -> str:
    """The time left, such as `1:02:03 left`."""
    if seconds is None:
        return "-:--:-- left"
    if not seconds:
        return "done"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left"


def failed_text(count: int) -> str:
    """The number of failed runs, as counted in the exit code."""
    return f"{count:,} failed or lost data"


def failure_line(report: RunReport) -> str:
    """A failure on one line: the run, the target, and the first line of the message."""
    name = report.run if len(report.run) <= MAX_NAME else f"…{report.run[1 - MAX_NAME :]}"
    message = next((each.message for each in reversed(report.findings) if each.fails), "")
    first = message.removeprefix(f"{report.source}: ").partition("\n")[0]
    return printable(f"{name} → {report.target}: {first}")


class JsonRuns:
    """Streams the document of `--json` to stdout: runs as they finish, then the totals.

    After `end`, the output equals that of `print_json`.
    """

    def __init__(self) -> None:
        self._before = '{\n  "runs": ['

    def add(self, run: Mapping[str, object]) -> None:
        """Print a run."""
        click.echo(f"{self._before}\n    {_indented(run, 4)}", nl=False)
        self._before = ","

    def end(self, totals: Mapping[str, object]) -> None:
        """Print the totals."""
        close = "\n  ]" if self._before == "," else f"{self._before}]"
        click.echo(f'{close},\n  "totals": {_indented(totals, 2)}\n}}')


def _indented(document: Mapping[str, object], spaces: int) -> str:
    # in JSON text, line feeds only separate lines; those in strings are escaped
    return json_text(document).replace("\n", "\n" + " " * spaces)
