"""Reports: what happened to each run, as data. The console prints them, programs read the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridges.stream.finding import Finding, Severity
from bridges.stream.redact import redact_message, shown_finding

STATUSES = ("exported", "appended", "unchanged", "failed", "planned")
PLANS = STATUSES[:3]  # what a dry run says would be done


@dataclass(frozen=True)
class RunReport:
    """One run and one target.

    `rows` and `points` are those of the run, `new_points` what this call wrote; `verified` is None
    where nothing was read back. `seconds` is the time from reading to verifying; `trend` a few
    values of the run's main metric, for a picture of it. `key` names the run in every target,
    `digest` its rows; `plan` is the status that a planned run would have got. `transient` says of
    a failure that the target did not answer, `answered` that it had answered before.
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
    trend: tuple[float, ...] = ()
    key: str = ""
    digest: str = ""
    plan: str = ""
    transient: bool = False
    answered: bool = False

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
            "source": redact_message(self.source),
            "run": self.run,
            "key": self.key,
            "target": self.target,
            "status": self.status,
            **({"would": self.plan} if self.plan else {}),
            "rows": self.rows,
            "points": self.points,
            "new_points": self.new_points,
            "location": self.location,
            "verified": self.verified,
            "seconds": round(self.seconds, 6),
            "findings": [*map(shown_finding, self.findings)],
        }


@dataclass(frozen=True)
class Found:
    """The findings of one code: in how many runs, and how many times in all."""

    code: str
    severity: Severity
    runs: int
    count: int

    def as_dict(self) -> dict[str, str | int]:
        """The findings as the last line of a report shows them."""
        return {**vars(self), "severity": self.severity.value}


class Totals:
    """The sums of any number of reports, none of which is kept.

    `targets` counts by target what `totals` counts for all; `failed` is how many reports the exit
    code must tell of.
    """

    def __init__(self, reports: Iterable[RunReport] = ()) -> None:
        self.targets: dict[str, Counter[str]] = {}
        self.failed = 0
        self._missing = 0
        self._runs: Counter[tuple[str, Severity]] = Counter()
        self._times: Counter[tuple[str, Severity]] = Counter()
        for report in reports:
            self.add(report)

    def add(self, report: RunReport) -> None:
        """Count one more."""
        sums = self.targets.setdefault(report.target, Counter())
        sums["runs"] += 1
        sums["points"] += report.points
        sums["new_points"] += report.new_points
        sums["findings"] += len(report.findings)
        sums[report.status] += 1
        if report.plan:
            sums[would_be(report.plan)] += 1
        if report.failed:
            self.failed += 1
            self._missing += report.missing
        for code in {(finding.code, finding.severity) for finding in report.findings}:
            self._runs[code] += 1
        for finding in report.findings:
            self._times[finding.code, finding.severity] += finding.count

    @property
    def exit_code(self) -> int:
        """0 all well, 1 some run failed or lost data, 2 only sources with nothing to read."""
        if not self.failed:
            return 0
        return 2 if self._missing == self.failed else 1

    @property
    def totals(self) -> dict[str, int]:
        """How many runs of each status, and the points and findings of all; of a dry run also what
        would be done.
        """
        is_dry = any(sums["planned"] for sums in self.targets.values())
        planned = map(would_be, PLANS) if is_dry else ()
        names = ("runs", *STATUSES, *planned, "points", "new_points", "findings")
        return {name: sum(sums[name] for sums in self.targets.values()) for name in names}

    @property
    def findings(self) -> list[Found]:
        """What was found, the gravest first, then what most runs have."""
        found = [Found(*key, runs, self._times[key]) for key, runs in self._runs.items()]
        order = [*Severity]
        return sorted(found, key=lambda one: (-order.index(one.severity), -one.runs, one.code))


def would_be(plan: str) -> str:
    """What `Totals` calls the number of planned runs of which that would be the status."""
    return f"would_be_{plan}"


@dataclass(frozen=True)
class BatchReport:
    """All runs of one call."""

    runs: tuple[RunReport, ...]

    @property
    def exit_code(self) -> int:
        """0 all well, 1 some run failed or lost data, 2 only sources with nothing to read."""
        return Totals(self.runs).exit_code

    @property
    def totals(self) -> dict[str, int]:
        """How many runs of each status, and the points and findings of all."""
        return Totals(self.runs).totals

    def as_dict(self) -> dict[str, Any]:
        """The whole report as the JSON document of `--json`."""
        return {"runs": [run.as_dict() for run in self.runs], "totals": self.totals}


def failure(
    source: str, target: str, message: str, *, code: str = "failed", **known: Any
) -> RunReport:
    """A run that could not be handled at all."""
    shown = redact_message(source)
    finding = Finding(code, Severity.ERROR, shown, redact_message(message))
    earlier: Sequence[Finding] = known.pop("findings", ())
    return RunReport(
        source,
        known.pop("run", shown),
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
