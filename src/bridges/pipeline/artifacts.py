"""Copy the artifact files of a run into its target, or compare them, for the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from bridges.exporters.base import CopiesArtifacts, ExistingRun
from bridges.pipeline.plan import Plan
from bridges.report import RunReport
from bridges.stream.finding import Severity


def with_artifacts(
    report: RunReport,
    plan: Plan,
    existing: ExistingRun | None,
    mode: Literal["copy", "compare", "plan"],
    on_phase: Callable[[str, str], None],
) -> RunReport:
    """The report with the number of files; unchanged if the exporter copies no artifacts.

    A run without new rows is `appended` if files were copied, and fails if its files differ.
    """
    exporter, run = plan.target.exporter, plan.layout.run
    if not isinstance(exporter, CopiesArtifacts):
        return report

    def on_progress(phase: str) -> None:
        on_phase(run.name, phase)

    counts, findings = exporter.copy_artifacts(plan.layout, existing, mode, on_progress)
    report = replace(report, artifacts=counts).with_findings(findings)
    if any(finding.severity is Severity.ERROR for finding in findings):
        return replace(report, status="failed", verified=False)
    if counts.copied_files and report.status == "unchanged":
        return replace(report, status="appended")
    return report
