"""The table of a dry run: a row for each run and target, printed one by one.

Column widths are fixed before the first row. Long names are shortened on a terminal only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import click

from bridges.cli.console import format_findings, padded, printable
from bridges.report import RunReport
from bridges.stream.finding import Severity

# the text and colour of each planned status
PLANS = {
    "exported": ("new", "green"),
    "appended": ("append", "cyan"),
    "unchanged": ("unchanged", None),
    "failed": ("failed", "red"),
}
LOST = "would be lost"
NUMBERS = (("rows", 6), ("points", 9), ("new points", 11))
IDENTITY = 12  # hex digits of the key
FIXED = 2 + 2 + 9 + sum(width for _, width in NUMBERS) + 2 + IDENTITY  # without names and losses
NARROW, WIDE, LONGEST_LOST = 24, 40, 20  # columns of a run's name, and of the losses
LABEL = 16


class PlanTable:
    """Formats the table for targets with these labels; `width` is the terminal's, or None."""

    def __init__(self, labels: Sequence[str], width: int | None) -> None:
        longest = max(len("target"), *map(len, labels))
        self._width = width
        self._is_begun = False
        self._label = longest if width is None else min(longest, LABEL)
        self._run = WIDE if width is None else _run_width(width - FIXED - self._label)

    def lines(self, report: RunReport, verbose: bool) -> Iterator[str]:
        """The row of a report, after the titles if it is the first.

        Long losses follow on their own line, then the codes of warnings, then the findings of a
        failed run, or of every run if `verbose`.
        """
        if not self._is_begun:
            self._is_begun = True
            yield self._header()
        yield from self._row(report)
        if verbose or report.status == "failed":
            yield from format_findings(report.findings, verbose)

    def _header(self) -> str:
        titles = "".join(f"{title:>{width}}" for title, width in NUMBERS)
        line = self._line("run", "target", f"{'plan':<9}", titles, f"{'identity':<{IDENTITY}}")
        return click.style(f"{line}  {LOST}" if self._fits(LOST) else line.rstrip(), dim=True)

    def _row(self, report: RunReport) -> Iterator[str]:
        title, colour = PLANS.get(report.plan or report.status, (report.status, None))
        counts = (report.rows, report.points, report.new_points)
        numbers = "".join(
            f"{'' if report.status == 'failed' else f'{count:,}':>{width}}"
            for count, (_, width) in zip(counts, NUMBERS, strict=True)
        )
        plan = click.style(title, fg=colour) + " " * (9 - len(title))
        line = self._line(report.run, report.target, plan, numbers, report.key[:IDENTITY])
        lost = _codes(report, Severity.LOSS)
        if lost and self._fits(lost):
            yield f"{line}  {click.style(lost, fg='red')}"
        else:
            yield line.rstrip()
            if lost:
                yield f"    {click.style(self._cut(f'{LOST}: {lost}'), fg='red')}"
        if warned := _codes(report, Severity.WARNING):
            yield f"    {click.style(self._cut(f'warning: {warned}'), fg='yellow')}"

    def _line(self, run: str, target: str, plan: str, numbers: str, identity: str) -> str:
        # a number too long for its column shortens the name: the next columns stay aligned
        spare = len(numbers) - sum(width for _, width in NUMBERS)
        name = self._named(run, max(1, self._run - spare))
        label = self._named(target, self._label)
        return f"{name}  {label}  {plan}{numbers}  {identity}"

    def _named(self, text: str, width: int) -> str:
        """A name padded to its column; on a terminal, shortened in the middle."""
        from rich.cells import cell_len

        text = printable(text)
        return padded(text, max(width, cell_len(text)) if self._width is None else width)

    def _fits(self, lost: str) -> bool:
        """Whether the text fits at the end of a row."""
        return self._width is None or FIXED + self._run + self._label + 2 + len(lost) <= self._width

    def _cut(self, text: str) -> str:
        room = len(text) if self._width is None else self._width - 4
        return text if len(text) <= room else f"{text[: room - 1]}…"


def _run_width(free: int) -> int:
    """The width of the name column, from the free columns for names and losses."""
    return max(8, min(free, WIDE, max(NARROW, free - LONGEST_LOST)))


def _codes(report: RunReport, severity: Severity) -> str:
    """The codes of a severity; empty for a failed run, whose findings are printed."""
    if report.status == "failed":
        return ""
    codes: Counter[str] = Counter()
    for finding in report.findings:
        if finding.severity is severity:
            codes[finding.code] += finding.count
    counted = (f"{code} ({count:,}×)" if count > 1 else code for code, count in codes.items())
    return printable(", ".join(counted))
