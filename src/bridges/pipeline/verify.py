"""Read a run back from its target, and compare it with the plan of its export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridges.exporters.base import ExistingRun, KeepsParams, Recorded
from bridges.pipeline.compare import compare
from bridges.pipeline.plan import Plan, record_gaps
from bridges.report import RunReport
from bridges.stream.finding import Finding, Severity
from bridges.stream.redact import redact_key, redact_value
from bridges.stream.tagging import named


def verified(report: RunReport, plan: Plan, existing: ExistingRun) -> RunReport:
    """The report with the result of the comparison: verified, or failed with its findings."""
    if plan.match.is_longer_there:  # all points of the run were compared to find this out
        return replace(report, verified=True)
    exporter = plan.target.exporter
    recorded = exporter.read_back(existing)
    report = report.with_findings([*recorded.findings, *_secrets_in_rows(recorded, exporter.name)])
    if report.status != "exported" and isinstance(exporter, KeepsParams):
        params = recorded.params
        if params is None:
            params = exporter.stored_params(existing)
        report = report.with_findings(_secrets_in_params(params, plan.layout.params, exporter.name))
    wrong = compare(plan.layout, recorded, plan.expected) + _record_differs(plan, existing)
    if not wrong:
        return replace(report, verified=True)
    return replace(report.with_findings(wrong), status="failed", verified=False)


def _record_differs(plan: Plan, existing: ExistingRun) -> list[Finding]:
    """A finding if the target lacks details of the run's record."""
    missing = record_gaps(plan.layout, existing, plan.target).missing
    if not missing:
        return []
    message = "the target lacks these details of the run"
    where = ", ".join(missing)
    return [Finding("record-differs", Severity.ERROR, where, message, len(missing))]


def _secrets_in_rows(recorded: Recorded, target: str) -> list[Finding]:
    """A finding if the target holds secrets of the log, which earlier releases did not mask."""
    others = {tag for tag, _, value in recorded.others if redact_value(tag, value) != value}
    tags = {tag for tag in (*recorded.points, *recorded.summary) if redact_key(tag) != tag}
    if not (shown := others | tags):
        return []
    message = f"{target} holds secrets of the log: delete the run there, and export it again"
    where = ", ".join(sorted(map(redact_key, shown)))
    return [Finding("secret-in-target", Severity.WARNING, where, message, len(shown))]


def _secrets_in_params(
    params: Mapping[str, object], masked: Mapping[str, object], target: str
) -> list[Finding]:
    """A finding if params of the target hold secrets; those equal to `masked` ones do not."""
    others = ((key, value) for key, value in params.items() if masked.get(key) != value)
    names = sorted(redact_key(key) for key, value in others if redact_value(key, value) != value)
    if not names:
        return []
    message = f"{target} holds secrets in params: delete the run there, and export it again"
    return [Finding("secret-in-target", Severity.WARNING, named(names), message, len(names))]
