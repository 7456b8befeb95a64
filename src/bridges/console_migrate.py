"""What is shown of a migration while it goes on: how far each target is, and the JSON document."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from bridges.console import Progress, json_text, printable
from bridges.migration.tasks import Task
from bridges.report import RunReport

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

WINDOW = 30.0  # seconds over which a rate is taken: what went before says little of what comes
REFRESH = 0.25  # seconds
LABEL, NAME, BAR = 16, 30, 40  # columns at most of a target, of a run's name, and of a bar


@dataclass
class Count:
    """How far a target is: its tasks, those that are done, and the runs that these were.

    Times are seconds of one clock; `look` is called at each that is shown.
    """

    label: str
    total: int = 0
    done: int = 0
    runs: int = 0
    _past: deque[tuple[float, int, int]] = field(default_factory=deque)

    def look(self, now: float) -> None:
        """Remember how far it is at this moment, and forget what lies before the window: that is
        longer where it would have no task in it.
        """
        past = self._past
        if len(past) > 1 and past[-1][1:] == past[-2][1:] == (self.done, self.runs):
            past.pop()
        past.append((now, self.done, self.runs))
        while len(past) > 2 and past[1][0] <= now - WINDOW and past[1][1] < self.done:
            past.popleft()

    @property
    def rate(self) -> float:
        """Runs per second of late."""
        return self._speeds()[1]

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes at the speed of late; None where that is not known."""
        if self.done >= self.total:
            return 0.0
        speed = self._speeds()[0]
        return (self.total - self.done) / speed if speed else None

    def _speeds(self) -> tuple[float, float]:
        """Tasks and runs per second between the first and the last look."""
        if len(self._past) < 2:
            return 0.0, 0.0
        (begin, *before), (end, *after) = self._past[0], self._past[-1]
        tasks, runs = ((b - a) / max(end - begin, 1e-9) for a, b in zip(before, after, strict=True))
        return tasks, runs


class MigrationProgress(Progress):
    """Shows how far the targets of a migration are; a context manager.

    On a terminal a bar for each, one for all, and the last failure; elsewhere a plain line now and
    then. Done are tasks, which may hold several runs or none; the rate is that of runs.
    """

    def __init__(self, quiet: bool) -> None:
        super().__init__(0, quiet)
        self._targets: dict[str, Count] = {}
        self._all = Count("all")
        self._failed, self._last = 0, ""

    def plan(self, tasks: Iterable[Task]) -> None:
        """These tasks are to be done."""
        targets: dict[str, Count] = {}
        for task in tasks:
            for target in task.targets:
                targets.setdefault(target.label, Count(target.label)).total += 1
        self._all.total = sum(count.total for count in targets.values())
        now = time.monotonic()
        for count in (self._all, *targets.values()):
            count.look(now)
        self._targets = targets  # as a whole: another thread shows it

    def task(self, task: Task) -> None:
        """A task is done for the targets that it has."""
        for target in task.targets:
            self._targets[target.label].done += 1
            self._all.done += 1

    def report(self, report: RunReport) -> None:
        """A run and target is done."""
        if report.target in self._targets:
            self._targets[report.target].runs += 1
            self._all.runs += 1
        if report.failed:
            self._failed += 1
            self._last = failure_line(report)

    def _counts(self) -> list[Count]:
        """What is shown, after a look at it: one for all where there are several targets."""
        counts = [*self._targets.values()]
        shown = [self._all, *counts] if len(counts) > 1 else counts
        now = time.monotonic()
        for count in shown:
            count.look(now)
        return shown

    def _left(self, count: Count) -> str:
        """All take as long as the slowest target."""
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
        options: Any = {"transient": True, "auto_refresh": False, "redirect_stdout": False}
        with Live(spinner, console=console, **options) as live:
            self._live = live
            while not self._stop.wait(REFRESH):
                spinner.update(text=self.text)
                live.update(self._screen(console.width) if self._targets else spinner, refresh=True)
            self._live = None

    def _screen(self, width: int) -> RenderableType:
        """The bars, and under them what went wrong."""
        from rich.console import Group
        from rich.text import Text

        bars = self._bars(self._counts(), width)
        if not self._failed:
            return bars
        line = Text.assemble((failed_text(self._failed), "red"), "  ", self._last)
        line.no_wrap, line.overflow = True, "ellipsis"
        return Group(bars, line)

    def _bars(self, counts: list[Count], width: int) -> Table:
        """A row for each; its columns are as wide as they will ever be, so that nothing jumps."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        label = min(LABEL, max(len(count.label) for count in counts))
        done = max(len(f"{count.total:,}") for count in counts) * 2 + 1
        others = (0, done, len("100,000 runs/s"), len("100:00:00 left"))
        room = width - sum(others) - 2 * len(others)  # for label and bar
        label = max(1, min(label, room - 1))  # the figures are what is looked for
        bar = max(1, min(BAR, room - label))
        widths = (label, *others)
        table = Table.grid(padding=(0, 2, 0, 0))
        for number, wide in enumerate(widths):
            justify: Any = "left" if number < 2 else "right"
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
    """The time that is left for people: `1:02:03 left`."""
    if seconds is None:
        return "-:--:-- left"
    if not seconds:
        return "done"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left"


def failed_text(count: int) -> str:
    """How many runs the exit code must tell of."""
    return f"{count:,} failed or lost data"


def failure_line(report: RunReport) -> str:
    """Why a run failed, on one line: which one, where to, and the first line of what was said."""
    name = report.run if len(report.run) <= NAME else f"…{report.run[1 - NAME :]}"
    message = next((each.message for each in reversed(report.findings) if each.fails), "")
    said = message.removeprefix(f"{report.source}: ").partition("\n")[0]
    return printable(f"{name} → {report.target}: {said}")


class JsonRuns:
    """The document of `--json` on stdout, none of which is kept: runs as they come, then totals.

    It is what `print_json` makes of both, and whole once `end` was called.
    """

    def __init__(self) -> None:
        self._before = '{\n  "runs": ['

    def add(self, run: Mapping[str, Any]) -> None:
        """Print a run."""
        click.echo(f"{self._before}\n    {_indented(run, 4)}", nl=False)
        self._before = ","

    def end(self, totals: Mapping[str, Any]) -> None:
        """Print the totals."""
        close = "\n  ]" if self._before == "," else f"{self._before}]"
        click.echo(f'{close},\n  "totals": {_indented(totals, 2)}\n}}')


def _indented(document: Mapping[str, Any], spaces: int) -> str:
    # lines of JSON end with no other character than this, and texts hold it as an escape
    return json_text(document).replace("\n", "\n" + " " * spaces)
