"""Reports: what happened to each run, as data. The console prints them, programs read the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridges.stream.finding import Finding, Severity

STATUSES = ("exported", "appended", "unchanged", "failed", "planned")


@dataclass(frozen=True)
class RunReport:
    """One run and one target.

    `rows` and `points` are those of the run, `new_points` what this call wrote; `verified` is None
    where nothing was read back. `seconds` is the time from reading to verifying.
    """

    source: str
    run: str
    target: str
    status: str
    rows: int = 0
    points: int = 0
    new_points: int = 0
    location: str | None = None
    verified: bool | None = None
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()
    longest: int = 0
    missing: bool = False

    @property
    def failed(self) -> bool:
        """Whether the exit code must tell of this run."""
        return self.status == "failed" or any(finding.fails for finding in self.findings)

    def with_findings(self, more: Sequence[Finding]) -> RunReport:
        """The same report with more findings."""
        return replace(self, findings=(*self.findings, *more))

    def as_dict(self) -> dict[str, Any]:
        """The run as the JSON document shows it."""
        return {
            "source": self.source,
            "run": self.run,
            "target": self.target,
            "status": self.status,
            "rows": self.rows,
            "points": self.points,
            "new_points": self.new_points,
            "location": self.location,
            "verified": self.verified,
            "seconds": round(self.seconds, 6),
            "findings": [finding.as_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class BatchReport:
    """All runs of one call."""

    runs: tuple[RunReport, ...]

    @property
    def exit_code(self) -> int:
        """0 all well, 1 some run failed or lost data, 2 nothing but sources that do not exist."""
        failed = [run for run in self.runs if run.failed]
        if not failed:
            return 0
        return 2 if all(run.missing for run in failed) else 1

    @property
    def totals(self) -> dict[str, int]:
        """How many runs of each status, and the points and findings of all."""
        by_status = Counter(run.status for run in self.runs)
        return {
            "runs": len(self.runs),
            **{status: by_status[status] for status in STATUSES},
            "points": sum(run.points for run in self.runs),
            "new_points": sum(run.new_points for run in self.runs),
            "findings": sum(len(run.findings) for run in self.runs),
        }

    def as_dict(self) -> dict[str, Any]:
        """The whole report as the JSON document of `--json`."""
        return {"runs": [run.as_dict() for run in self.runs], "totals": self.totals}


def failure(
    source: str, target: str, message: str, *, code: str = "failed", **known: Any
) -> RunReport:
    """A run that could not be handled at all."""
    finding = Finding(code, Severity.ERROR, source, message)
    earlier: Sequence[Finding] = known.pop("findings", ())
    return RunReport(
        source,
        known.pop("run", source),
        target,
        "failed",
        findings=(*earlier, finding),
        **known,
    )


class Tally:
    """What was done to each run of a target, by its place there."""

    def __init__(self) -> None:
        self._reports: dict[tuple[str, str], RunReport] = {}

    def add(self, report: RunReport) -> None:
        """Join a report with those of the same run; leave out what has no place in a target."""
        if report.location is None:
            return
        key = report.target, report.location
        before = self._reports.get(key)
        self._reports[key] = _joined(before, report) if before else report

    def reports(self) -> list[RunReport]:
        """One report for each run."""
        return [*self._reports.values()]


def _joined(before: RunReport, after: RunReport) -> RunReport:
    """Two reports of one run as one: what both did, and how it is now."""
    did_nothing = ("unchanged", "failed")
    is_told = before.status in did_nothing or after.status == "failed"
    return replace(
        after,
        status=after.status if is_told else before.status,
        new_points=before.new_points + after.new_points,
        seconds=before.seconds + after.seconds,
    )
