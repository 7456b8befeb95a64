"""The plan of an export: the data to be written, and the report before the write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import NO_GAPS, ExistingRun, KeepsRecords, Points, RecordGaps, as_stored
from bridges.pipeline.compare import expected_points, stored_values
from bridges.pipeline.continuing import continued
from bridges.pipeline.match import Match
from bridges.pipeline.saved_rows import rows_lacking
from bridges.pipeline.target import Target
from bridges.report import RunReport
from bridges.stream.columns import are_plain
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.model import Run
from bridges.stream.trend import main_metric, trend


@dataclass(frozen=True)
class Plan:
    """An export before it is done: the layout of the run, and the existing run if there is one.

    `expected` has the future points of each tag in the target. `gaps` are those of the
    existing run.
    """

    target: Target
    match: Match
    layout: Layout
    expected: Mapping[str, Points]
    gaps: RecordGaps = NO_GAPS

    @classmethod
    def of(cls, match: Match, target: Target) -> Plan:
        """The plan for a match: the run is laid out once, and adapted to the target.

        Raises ExportError and SourceError, see `continued`.
        """
        layout = continued(match, target)
        gaps = record_gaps(layout, match.known.existing, target) if match.known else NO_GAPS
        return cls(target, match, layout, expected_points(layout, target.exporter), gaps)

    @property
    def existing(self) -> ExistingRun | None:
        """The existing run that is continued."""
        return self.match.known.existing if self.match.known else None

    @cached_property
    def is_done(self) -> bool:
        """Whether the target holds all rows. If it holds more of them, it is left as it is."""
        known, layout = self.match.known, self.layout
        if known is None or not known.complete or layout.replaces:
            return False
        if self.match.is_longer_there:
            return True
        return known.state.rows >= layout.rows and not self.gaps.missing

    @property
    def status(self) -> str:
        """The status after the export: a run whose first write was interrupted is `exported`."""
        if self.match.known is None or not self.match.known.state.append_rows:
            return "exported"
        return "unchanged" if self.is_done else "appended"

    def require_points(self) -> None:
        """Raises ExportError if the target would keep no value of the source."""
        if not self.layout.points:
            _refuse(self.layout, self.target.exporter.name)

    def report(self) -> RunReport:
        """The report of the export, with all findings that are known before it."""
        layout, known = self.layout, self.match.known
        start = known.state.rows if known else 0
        points = layout.points
        findings = [*layout.run.findings, *layout.findings, *self._losses(), *self._notes()]
        metric = main_metric(layout.run.stream, layout.run.key_rules)
        report = RunReport(
            source=layout.run.source,
            run=layout.run.name,
            target=self.target.exporter.name,
            status=self.status,
            rows=layout.rows,
            points=points,
            new_points=layout.points_from(min(start, layout.rows)) if start else points,
            findings=tuple(findings),
            longest=max((len(series.rows) for series in layout.stream.series), default=0),
            trend=trend(layout.run.stream, metric),
            trend_metric=metric,
            key=layout.key,
            digest=layout.digest,
        )
        return located(report, known.existing) if known else report

    def _losses(self) -> list[Finding]:
        """Finite numbers that the target stores as infinity, and others that it stores as zero."""
        if are_plain(stored_values(self.expected)):  # the usual case
            return []
        findings, exporter = [], self.target.exporter
        for series in self.layout.stream.numbers:
            if series.values.dtype == bool:
                continue
            stored = as_stored(exporter, series.values)
            for code, lost in (
                ("overflow-to-infinity", np.isinf(stored) & np.isfinite(series.values)),
                ("underflow-to-zero", (stored == 0) & (series.values != 0)),
            ):
                if count := int(lost.sum()):
                    findings.append(_out_of_range(code, series.key, count, exporter.name))
        return findings

    def _notes(self) -> list[Finding]:
        """Findings about the existing run."""
        match, known = self.match, self.match.known
        if known is None:
            identity = match.identity
            is_unsure = match.run.key and identity.options and identity.onward is None
            return [_original_unknown(match.run)] if is_unsure else []
        findings = []
        if match.is_longer_there:
            findings.append(_target_is_longer(known.state.history, self.layout.history))
            findings += self._results_not_added()
        if match.alike:
            findings.append(_several_fit(known.existing, match.alike))
        if self.gaps.different:
            findings.append(_params_differ(self.gaps.different))
        if not known.complete:
            findings.append(_incomplete(known.existing, self.target.exporter.name))
        return findings

    def _results_not_added(self) -> list[Finding]:
        """Rows beside the history that an existing run with a longer history lacks."""
        run, known = self.layout.run, self.match.known
        assert known is not None
        count = len(rows_lacking(run, known.state, known.existing, self.target))
        if not count:
            return []
        message = (
            "rows of results files are not added, because the target holds a longer history of "
            "this run: export the longest state with them, or delete the run there and export it "
            "again"
        )
        return [Finding("results-not-added", Severity.LOSS, run.source, message, count)]


def record_gaps(layout: Layout, existing: ExistingRun, target: Target) -> RecordGaps:
    """The gaps of an existing run, if the target stores such records."""
    exporter = target.exporter
    if layout.run.record is None or not isinstance(exporter, KeepsRecords):
        return NO_GAPS
    return exporter.record_gaps(layout, existing)


def _params_differ(names: Sequence[str]) -> Finding:
    message = "the target keeps its values: params cannot be changed"
    return Finding("params-differ", Severity.LOSS, ", ".join(names), message, len(names))


def located(report: RunReport, existing: ExistingRun) -> RunReport:
    """The report with the name, id and location of the run in the target."""
    return replace(
        report,
        run=existing.name,
        location=existing.location,
        run_id=existing.id,
        place=existing.place,
    )


def _refuse(layout: Layout, target: str) -> None:
    if keys := layout.run.stream.keys:
        shown = ", ".join(map(repr, keys[:5])) + (" …" if len(keys) > 5 else "")
        raise ExportError(
            f"{target} keeps none of the values that this run holds (under {shown}), so "
            "nothing was written. Log numbers, or export to a target that keeps such values, such "
            "as wandb."
        )
    for finding in layout.run.findings:
        if finding.code.endswith("-left-out"):
            raise ExportError(
                "the history has no rows, and other rows are left out "
                f"({finding.message}), so nothing was written. Export the run again when its "
                "history has rows."
            )


def _out_of_range(code: str, tag: str, count: int, target: str) -> Finding:
    becomes = "infinity" if code == "overflow-to-infinity" else "zero"
    message = f"{target} stores these values as {becomes}, as it does for the live callback"
    return Finding(code, Severity.WARNING, f"tag {tag!r}", message, count)


def _incomplete(existing: ExistingRun, target: str) -> Finding:
    if existing.missing:
        message = "the run in the target lacks this part, which is added"
        return Finding("part-added", Severity.INFO, ", ".join(existing.missing), message)
    message = "an earlier export was interrupted; the missing rows are added"
    return Finding("interrupted-before", Severity.INFO, target, message)


def _target_is_longer(there: int, rows: int) -> Finding:
    message = f"the target holds {there} rows of this history, and the source only {rows}"
    return Finding("target-is-longer", Severity.INFO, "all rows", message)


def _original_unknown(run: Run) -> Finding:
    message = (
        "with these options, an export of the original of this run is another run: export to "
        "this target either always the original, or always this copy"
    )
    return Finding("original-unknown", Severity.INFO, run.source, message)


def _several_fit(existing: ExistingRun, alike: int) -> Finding:
    message = (
        f"{alike + 1} existing runs have these rows, and the source has no settings to choose "
        f"between them: the first one is used, {existing.name!r}"
    )
    return Finding("several-runs-fit", Severity.INFO, existing.location, message, alike + 1)
