"""The table of a dry run: a row of text for each run and target as it comes; none is kept.

Columns have their widths before the first row is known, so long names are shortened where there is
a terminal; elsewhere nothing is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import click

from bridges.console import format_findings, printable
from bridges.report import RunReport
from bridges.stream.finding import Severity

# what a row says for the status that a run would get, and in which colour
PLANS = {
    "exported": ("new", "green"),
    "appended": ("append", "cyan"),
    "unchanged": ("unchanged", None),
    "failed": ("failed", "red"),
}
LOST = "would be lost"
NUMBERS = (("rows", 6), ("points", 9), ("new points", 11))
IDENTITY = 12  # hex digits of the key
FIXED = 2 + 2 + 9 + sum(width for _, width in NUMBERS) + 2 + IDENTITY  # all but names and losses
NARROW, WIDE, LONGEST_LOST = 24, 40, 20  # columns of a run's name, and of what is lost
LABEL = 16


class PlanTable:
    """Lines of the table for targets of these labels; `width` is that of the terminal, or None."""

    def __init__(self, labels: Sequence[str], width: int | None) -> None:
        longest = max(len("target"), *map(len, labels))
        self._width = width
        self._is_begun = False
        self._label = longest if width is None else min(longest, LABEL)
        self._run = WIDE if width is None else _run_width(width - FIXED - self._label)

    def lines(self, report: RunReport, verbose: bool) -> Iterator[str]:
        """The row of a report, below the titles if it is the first. Below it what does not fit,
        and the findings in full: those of a run that failed, or all where `verbose`.
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
        lost = _lost(report)
        if lost and self._fits(lost):
            yield f"{line}  {_coloured(lost, report)}"
        else:
            yield line.rstrip()
            if lost:
                yield f"    {_coloured(self._cut(lost), report)}"

    def _line(self, run: str, target: str, plan: str, numbers: str, identity: str) -> str:
        # a number too long for its column takes from the name, so that the others stay in place
        spare = len(numbers) - sum(width for _, width in NUMBERS)
        name = self._named(run, max(1, self._run - spare))
        label = self._named(target, self._label)
        return f"{name}  {label}  {plan}{numbers}  {identity}"

    def _named(self, text: str, width: int) -> str:
        """A name in its column: shortened in the middle where there is a terminal."""
        from rich.cells import cell_len, set_cell_size

        text = printable(text)
        if self._width is None or cell_len(text) <= width:
            return text + " " * (width - cell_len(text))
        left = width // 2
        tail = set_cell_size(text[::-1], width - 1 - left)[::-1]
        return f"{set_cell_size(text, left)}…{tail}"

    def _fits(self, lost: str) -> bool:
        """Whether it has room at the end of a row."""
        return self._width is None or FIXED + self._run + self._label + 2 + len(lost) <= self._width

    def _cut(self, text: str) -> str:
        room = len(text) if self._width is None else self._width - 4
        return text if len(text) <= room else f"{text[: room - 1]}…"


def _run_width(free: int) -> int:
    """The column of names, of what a terminal has left for it and for what would be lost."""
    return max(8, min(free, WIDE, max(NARROW, free - LONGEST_LOST)))


def _lost(report: RunReport) -> str:
    """The codes of what is not as it should be; of a run that failed, that is told in full."""
    if report.status == "failed":
        return ""
    codes: Counter[str] = Counter()
    for finding in report.findings:
        if finding.severity is not Severity.INFO:
            codes[finding.code] += finding.count
    told = (f"{code} ({count:,}×)" if count > 1 else code for code, count in codes.items())
    return printable(", ".join(told))


def _coloured(lost: str, report: RunReport) -> str:
    return click.style(lost, fg="red" if report.failed else "yellow")
