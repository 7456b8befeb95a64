"""The sums of a report that counts each run once, whatever the number of its targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bridges.report import RunReport
from bridges.stream.finding import Finding, Severity


@dataclass
class CodeTotals:
    """The findings of one code: their gravest severity, number of runs, and total count."""

    severity: Severity
    runs: int = 0
    count: int = 0


@dataclass
class RunTotals:
    """The number of runs, of failed ones, and of findings by code, in order of arrival."""

    runs: int = 0
    failed: int = 0
    codes: dict[str, CodeTotals] = field(default_factory=dict)

    def add(self, reports: Sequence[RunReport], found: Mapping[Finding, Sequence[str]]) -> None:
        """Add a run, given its reports and their findings, the gravest first."""
        self.runs += 1
        self.failed += any(report.failed for report in reports)
        for finding in found:
            totals = self.codes.setdefault(finding.code, CodeTotals(finding.severity))
            totals.severity = max(totals.severity, finding.severity, key=[*Severity].index)
            totals.count += finding.count
        for code in {finding.code for finding in found}:
            self.codes[code].runs += 1

    def ordered(self) -> list[tuple[str, CodeTotals]]:
        """The codes, ordered by severity and number of runs."""
        order = [*Severity]
        return sorted(
            self.codes.items(),
            key=lambda item: (-order.index(item[1].severity), -item[1].runs, item[0]),
        )
