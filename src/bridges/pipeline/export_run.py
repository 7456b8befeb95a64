"""Export one run, or verify it: find, lay out, adapt, write, read back, compare.

Any error of a run becomes its report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Literal

from bridges.errors import BridgeError, ConfigError, ExportError
from bridges.exporters.base import (
    ConflictError,
    ExistingRun,
    Exporter,
    Labels,
    Relabels,
    RemovesLeftovers,
    copies_artifacts,
)
from bridges.log import log
from bridges.pipeline.key_rules import with_key_rules
from bridges.pipeline.match_existing import match_existing
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.plan import Plan, located
from bridges.pipeline.target import Target
from bridges.pipeline.verify import verified
from bridges.report import RunReport, failure
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.model import Run

ATTEMPTS = 10  # if another export writes the run at the same time
OnPhase = Callable[[str, str], None]
RunAction = Callable[[Run, Exporter, ExportOptions, OnPhase], RunReport]


def export_run(
    run: Run,
    exporter: Exporter,
    options: ExportOptions,
    on_phase: OnPhase = lambda run, phase: None,
) -> RunReport:
    """Export one run to one target. Raises ConfigError; other errors are in the report."""
    return _reported(_export, run, exporter, options, on_phase)


def verify_run(
    run: Run,
    exporter: Exporter,
    options: ExportOptions,
    on_phase: OnPhase = lambda run, phase: None,
) -> RunReport:
    """Compare one run with its copy in the target; nothing is written.

    Raises ConfigError; other errors are in the report.
    """
    return _reported(_verify, run, exporter, options, on_phase)


def _export_once(
    run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase
) -> RunReport:
    """The way of a run. Raises ConflictError if another export changes the run first."""
    target = Target(exporter, options.layout)
    seen, match = match_existing(run, target, is_written=True)
    plan = Plan.of(match, target)
    plan.require_points()
    report, existing = plan.report(), plan.existing
    if options.dry_run:
        report = _with_artifacts(report, plan, existing, "plan", on_phase)
        return replace(report, status="planned", plan=report.status)
    if existing is None or not plan.is_done:
        on_phase(run.name, "writing")
        existing = exporter.write(plan.layout, seen, existing)
        report = located(report, existing)
    elif isinstance(exporter, RemovesLeftovers):
        removed = exporter.remove_leftovers(plan.layout, seen, existing)
        report = report.with_findings(_leftovers(exporter, removed))
    if options.labels and report.status != "exported":
        on_phase(run.name, "renaming")
        existing, findings = _relabelled(plan.layout, existing, exporter, options.labels)
        report = replace(report, run=existing.name).with_findings(findings)
    if options.verify:
        on_phase(run.name, "verifying")
        report = verified(report, plan, existing)
    if options.copy_files:
        report = _with_artifacts(report, plan, existing, "copy", on_phase)
    if options.attach_source and report.status != "failed":
        from bridges.pipeline.attachments import attach_sources

        on_phase(run.name, "attaching the source of")
        report = report.with_findings(attach_sources(run, existing, exporter))
    return report


def _verify(run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase) -> RunReport:
    on_phase(run.name, "verifying")
    target = Target(exporter, options.layout)
    _, match = match_existing(run, target, is_written=False)
    plan = Plan.of(match, target)
    report, existing = plan.report(), plan.existing
    if existing is not None and plan.is_done:
        report = verified(report, plan, existing)
        return _with_artifacts(report, plan, existing, "compare", on_phase)
    rows = match.known.state.rows if match.known else 0
    there = f"only {rows} of its {plan.layout.rows} rows" if match.known else "no such run"
    message = f"the target holds {there}: run `bridge export` with the same options first"
    finding = Finding("not-in-target", Severity.ERROR, exporter.name, message)
    return replace(report.with_findings([finding]), status="failed", verified=False)


def _with_artifacts(
    report: RunReport,
    plan: Plan,
    existing: ExistingRun | None,
    mode: Literal["copy", "compare", "plan"],
    on_phase: OnPhase,
) -> RunReport:
    """The report with the artifact files of the run, if its target copies them."""
    has_record = plan.layout.run.record is not None
    if not has_record or not copies_artifacts(plan.target.exporter) or report.status == "failed":
        return report
    from bridges.pipeline.artifacts import with_artifacts

    return with_artifacts(report, plan, existing, mode, on_phase)


def _export(run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase) -> RunReport:
    """Repeat the export until no other export is faster."""
    for attempt in range(ATTEMPTS):
        with suppress(ConflictError), _pause_if_transient(attempt, options.retries):
            return _export_once(run, exporter, options, on_phase)
    message = f"other exports of this run were faster {ATTEMPTS} times; try again"
    raise ExportError(message)


@contextmanager
def _pause_if_transient(attempt: int, retries: int) -> Iterator[None]:
    """After a transient error, pause and continue; raise it again after `retries` attempts."""
    try:
        yield
    except ExportError as error:
        if not error.transient or error.waited or attempt >= retries:
            raise
        import random  # slow to import, and rarely needed

        time.sleep(2**attempt * random.uniform(0.5, 1.0))


def _leftovers(exporter: Exporter, removed: int) -> list[Finding]:
    if not removed:
        return []
    message = "interrupted exports left unfinished copies of this run, which are deleted"
    return [Finding("leftovers-removed", Severity.INFO, exporter.name, message, removed)]


def _relabelled(
    layout: Layout, existing: ExistingRun, exporter: Exporter, labels: Labels
) -> tuple[ExistingRun, list[Finding]]:
    """The existing run with the chosen name, group and tags, if the target can change them."""
    if isinstance(exporter, Relabels):
        changed = exporter.relabel(layout, existing, labels)
        if changed is not None:
            return changed, []
    message = f"the run exists as {existing.name!r}, and its name, group and tags cannot be changed"
    return existing, [Finding("labels-kept", Severity.INFO, exporter.name, message)]


def _reported(
    action: RunAction, run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase
) -> RunReport:
    """The report of an action; its errors become the report of a failed run."""
    started = time.perf_counter()

    def phase(name: str, what: str) -> None:
        log("run", "%s: %s %s", exporter.name, what, name)
        on_phase(name, what)

    try:
        report = action(with_key_rules(run), exporter, options, phase)
    except ConfigError:
        raise
    except BridgeError as error:
        report = _failed(run, exporter, str(error))
        if silence := _silence(error):
            report = replace(report, transient=True, answered=silence.answered)
    except Exception as error:  # deliberately broad: the one boundary of a run
        message = f"{type(error).__name__}: {error}. This is a bug of bridges or of a plug-in."
        report = _failed(run, exporter, message, code="internal-error")
        log("run", "%s", message, exc_info=True)
    seconds = time.perf_counter() - started
    log("run", "%s: %s %s in %.3f s", exporter.name, report.status, report.run, seconds)
    return replace(report, seconds=seconds)


def _failed(run: Run, exporter: Exporter, message: str, code: str = "failed") -> RunReport:
    return failure(
        run.source,
        exporter.name,
        message,
        code=code,
        run=run.name,
        rows=len(run.stream),
        findings=run.findings,
    )


def _silence(error: BaseException | None) -> ExportError | None:
    """The error of a target that did not answer, in the chain of causes."""
    while error is not None:
        if isinstance(error, ExportError) and error.transient:
            return error
        error = error.__cause__
    return None
