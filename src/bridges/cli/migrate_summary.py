"""The summary of a migration: runs by target, findings, and runs per second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bridges.cli.console import COLOURS, count_noun, printable
from bridges.report import Totals, would_be

if TYPE_CHECKING:
    from rich.table import Table

# keys of `Totals.totals` and their titles; planned runs are counted by their planned status
COLUMNS = {"exported": "new", "appended": "appended", "unchanged": "unchanged", "failed": "failed"}


def print_summary(totals: Totals, seconds: float) -> None:
    """Print two tables and a line on stdout, with colours on a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if totals.targets:
        console.print(_targets(totals))
    if totals.findings:
        console.print()
        console.print(_findings(totals))
    console.print()
    console.print(rate_line(totals, seconds), markup=False, soft_wrap=True)


def rate_line(totals: Totals, seconds: float) -> str:
    """The last line, such as `120 runs, 3,400 points (12 new) in 61.5 s, 2.0 runs/s`."""
    sums = totals.totals
    done = f"{_runs(totals)}, {count_noun(sums['points'], 'point')}"
    line = f"{done} ({sums['new_points']:,} new) in {seconds:,.1f} s"
    if seconds > 0:
        line += f", {sums['runs'] / seconds:,.1f} runs/s"
    if sums["planned"]:
        line += ", nothing written"
    if totals.failed:
        line += f"; {count_noun(totals.failed, 'run')} failed or lost data"
    return line


def _runs(totals: Totals) -> str:
    """The runs, times the targets if every target has all of them."""
    counts = {sums["runs"] for sums in totals.targets.values()}
    if len(totals.targets) < 2 or len(counts) > 1:
        return count_noun(totals.totals["runs"], "run")
    return f"{count_noun(counts.pop(), 'run')} × {len(totals.targets)} targets"


def _targets(totals: Totals) -> Table:
    """A row for each target, and the totals if several targets exist."""
    from rich.text import Text

    sums = totals.totals
    columns = COLUMNS | {"runs": "runs", "points": "points"}
    table = _table(["target"], columns.values())
    for target, row in totals.targets.items():
        table.add_row(Text(printable(target)), *(_count(name, row) for name in columns))
    if len(totals.targets) > 1:
        table.add_row("all", *(_count(name, sums) for name in columns), style="bold")
    return table


def _count(name: str, sums: Mapping[str, int]) -> str:
    count = sums.get(name, 0) + sums.get(would_be(name), 0)
    return f"[red]{count:,}[/]" if name == "failed" and count else f"{count:,}"


def _findings(totals: Totals) -> Table:
    """A row for each code, the gravest first."""
    from rich.text import Text

    table = _table(["severity", "finding"], ["runs", "times"])
    for found in totals.findings:
        severity = Text(found.severity.value, COLOURS[found.severity])
        code = Text(printable(found.code))
        table.add_row(severity, code, f"{found.runs:,}", f"{found.count:,}")
    return table


def _table(texts: Sequence[str], numbers: Iterable[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in texts:
        table.add_column(title, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table
