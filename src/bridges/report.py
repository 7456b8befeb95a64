"""Reports: the result of each run, as data for the console and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bridges.stream.finding import Finding, Severity
from bridges.stream.redact import redact_message, shown_finding
from bridges.stream.trend import sparkline

STATUSES = ("exported", "appended", "unchanged", "failed", "planned")
TITLES = ("run", "target", "status", "rows", "points", "new", "verified", "trend", "findings")
PLANS = STATUSES[:3]  # possible plans of a dry run


@dataclass(frozen=True)
class ArtifactCounts:
    """The artifact files of a run in its source, and those copied by this call.

    In a dry run, the copied ones are those that would be copied.
    """

    files: int = 0
    bytes: int = 0
    copied_files: int = 0
    copied_bytes: int = 0


@dataclass(frozen=True)
class RunReport:
    """The result of one run and one target.

    `rows` and `points` count the run, `new_points` the points written by this call. `verified` is
    None if nothing was read back. `seconds` is the time from reading to verifying; `trend` has a
    few values of the main metric, `trend_metric`, for a sparkline. `key` identifies the run in
    every target, `digest` identifies its rows. `plan` is the status expected by a dry run.
    `transient`: the target did not answer; `answered`: it answered an earlier request. `run_id` is
    the target's own id of the run, `place` its experiment or project; the JSON document has
    neither. `artifacts` is None unless artifact files are copied.
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
    run_id: str = ""
    place: str = ""
    trend_metric: str = ""
    artifacts: ArtifactCounts | None = None

    def __repr__(self) -> str:
        verified = {True: ", verified", False: ", NOT VERIFIED", None: ""}[self.verified]
        counts = f"{self.rows} rows, {self.points} points{verified}"
        count = len(self.findings)
        told = f", {count} finding{'s' * (count != 1)}" if count else ""
        name = f"{redact_message(self.run)!r} in {redact_message(self.target)}"
        return f"<RunReport {name}: {self.status}, {counts}{told}>"

    def _repr_html_(self) -> str:
        return BatchReport((self,))._repr_html_()

    @property
    def failed(self) -> bool:
        """Whether the run counts as failed in the exit code."""
        return self.status == "failed" or any(finding.fails for finding in self.findings)

    def with_findings(self, more: Sequence[Finding]) -> RunReport:
        """The same report with more findings."""
        return replace(self, findings=(*self.findings, *more)) if more else self

    def as_dict(self) -> dict[str, object]:
        """The entry of the run in the JSON document."""
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
            **({"artifacts": vars(self.artifacts)} if self.artifacts else {}),
            "location": self.location,
            "verified": self.verified,
            "seconds": round(self.seconds, 6),
            "findings": [*map(shown_finding, self.findings)],
        }


@dataclass(frozen=True)
class Found:
    """The findings of one code: the number of runs, and the total count."""

    code: str
    severity: Severity
    runs: int
    count: int

    def as_dict(self) -> dict[str, str | int]:
        """The entry of the code in the last line of a report."""
        return {**vars(self), "severity": self.severity.value}


class Totals:
    """The sums of any number of reports, without keeping them.

    `targets` has the counts of `totals` by target; `failed` is the number of failed reports.
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
        """Add a report to the sums."""
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
        """0: success; 1: a run failed or lost data; 2: only sources with nothing to read."""
        if not self.failed:
            return 0
        return 2 if self._missing == self.failed else 1

    @property
    def totals(self) -> dict[str, int]:
        """The number of runs by status, points and findings; for a dry run also by plan."""
        is_dry = any(sums["planned"] for sums in self.targets.values())
        planned = map(would_be, PLANS) if is_dry else ()
        names = ("runs", *STATUSES, *planned, "points", "new_points", "findings")
        return {name: sum(sums[name] for sums in self.targets.values()) for name in names}

    @property
    def findings(self) -> list[Found]:
        """The findings by code, ordered by severity and number of runs."""
        found = [Found(*key, runs, self._times[key]) for key, runs in self._runs.items()]
        order = [*Severity]
        return sorted(found, key=lambda one: (-order.index(one.severity), -one.runs, one.code))


def would_be(plan: str) -> str:
    """The key in `Totals.totals` for planned runs with this plan."""
    return f"would_be_{plan}"


@dataclass(frozen=True)
class BatchReport:
    """All runs of one call."""

    runs: tuple[RunReport, ...]

    def __repr__(self) -> str:
        counts = [f"{count} {name}" for name in STATUSES if (count := self.totals[name])]
        return f"<BatchReport: {', '.join(counts) or 'no runs'}, exit code {self.exit_code}>"

    def _repr_html_(self) -> str:
        from bridges.stream.show import MOST_ROWS, table

        titles = (
            "run",
            "target",
            "status",
            "rows",
            "points",
            "new",
            "verified",
            "trend",
            "findings",
        )
        return table(titles, map(_cells, self.runs[:MOST_ROWS]), len(self.runs))

    @property
    def exit_code(self) -> int:
        """0: success; 1: a run failed or lost data; 2: only sources with nothing to read."""
        return Totals(self.runs).exit_code

    @property
    def totals(self) -> dict[str, int]:
        """The number of runs by status, and of points and findings."""
        return Totals(self.runs).totals

    def as_dict(self) -> dict[str, object]:
        """The report as the JSON document of `--json`."""
        return {"runs": [run.as_dict() for run in self.runs], "totals": self.totals}


def _cells(report: RunReport) -> list[str]:
    """The row of a report in a notebook."""
    numbers = (report.rows, report.points, report.new_points)
    codes = dict.fromkeys(finding.code for finding in report.findings)
    return [
        report.run,
        report.target,
        report.status,
        *map(str, numbers),
        {True: "yes", False: "NO", None: ""}[report.verified],
        sparkline(report.trend),
        ", ".join(codes),
    ]


def failure(
    source: str,
    target: str,
    message: str,
    *,
    code: str = "failed",
    run: str = "",
    rows: int = 0,
    findings: Sequence[Finding] = (),
    missing: bool = False,
) -> RunReport:
    """The report of a failed run; without `run`, it is named after its source."""
    shown = redact_message(source)
    finding = Finding(code, Severity.ERROR, shown, redact_message(message))
    return RunReport(
        source,
        run or shown,
        target,
        "failed",
        rows,
        findings=(*findings, finding),
        missing=missing,
    )


class Tally:
    """Merges the reports of each run by its location in a target."""

    def __init__(self) -> None:
        self._reports: dict[tuple[str, str], RunReport] = {}

    def add(self, report: RunReport) -> None:
        """Merge a report with earlier ones of its run; reports without a location are ignored."""
        if report.location is None:
            return
        key = report.target, report.location
        before = self._reports.get(key)
        self._reports[key] = _joined(before, report) if before else report

    def reports(self) -> list[RunReport]:
        """One report for each run."""
        return [*self._reports.values()]


def _joined(before: RunReport, after: RunReport) -> RunReport:
    """Merge two reports of a run: the sums of both, and the state of the later one."""
    did_nothing = ("unchanged", "failed")
    is_later = before.status in did_nothing or after.status == "failed"
    return replace(
        after,
        status=after.status if is_later else before.status,
        new_points=before.new_points + after.new_points,
        seconds=before.seconds + after.seconds,
    )
