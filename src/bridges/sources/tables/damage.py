"""The unreadable rows of a table: an error, or a finding with `--salvage`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bridges.errors import SourceError
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64


@dataclass
class Damage:
    """Unreadable rows. Without `salvage`, the first one raises SourceError."""

    location: str
    header: Sequence[str]
    salvage: bool
    cut_line: int  # the last one, if it has no end; else 0
    lines: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)

    def add(self, line: int, cells: Sequence[str]) -> None:
        """Add a row with another number of cells than the header."""
        if line == self.cut_line:
            self.cut.append(line)
            return
        width = len(self.header)
        self.refuse(
            line,
            found=f"{len(cells)} cell{'s' * (len(cells) != 1)}",
            expected=f"{width}, as the first line has",
        )

    def refuse(self, line: int, found: str, expected: str, column: str = "") -> None:
        """Add an unreadable row. Raises SourceError unless `salvage`."""
        if not self.salvage:
            raise SourceError(
                self.location,
                place=f"line {line}, column {column!r}" if column else f"line {line}",
                found=found,
                expected=expected,
                remedy="Fix or remove this line, or use --salvage to read the others.",
            )
        self.lines.append(line)

    def findings(self) -> list[Finding]:
        """The findings about the lines."""
        found = []
        if self.lines:
            message = "lines that do not fit the columns of the table: left out"
            where = name_lines(self.lines)
            found.append(
                Finding("table-rows-damaged", Severity.LOSS, where, message, len(self.lines))
            )
        if self.cut:
            message = "the last line ends too early, as while it is written: left out"
            found.append(Finding("table-row-cut-off", Severity.INFO, name_lines(self.cut), message))
        return found


def name_lines(lines: Sequence[int] | Int64, limit: int = 5) -> str:
    """Line numbers for messages: `lines 3, 8 and 4 more`."""
    shown = ", ".join(str(int(line)) for line in lines[:limit])
    more = len(lines) - limit
    label = "line" if len(lines) == 1 else "lines"
    return f"{label} {shown}" + (f" and {more} more" if more > 0 else "")
