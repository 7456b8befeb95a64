"""One run's way: read, lay out, find what the target holds, write what is missing, read back.

`export_run` is the per-run boundary: whatever goes wrong with a run becomes its report.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from bridges import plugins
from bridges.errors import BridgeError, ConfigError, ExportError, SourceError
from bridges.exporters.base import (
    ConflictError,
    ExistingRun,
    Exporter,
    KeepsParams,
    Labels,
    Points,
    Relabels,
    as_stored,
)
from bridges.pipeline.as_logged import found_by_tool_keys, resolve_logged
from bridges.pipeline.attachments import attach_sources
from bridges.pipeline.compare import compare, expected_points, secret_params_in, secrets_in
from bridges.pipeline.continuing import continued
from bridges.pipeline.empty_export import refuse_nothing
from bridges.pipeline.key_rules import with_key_rules
from bridges.pipeline.layouts import Placer
from bridges.pipeline.match_existing import Known, Match, resolve
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.saved_since import rows_lacking
from bridges.report import RunReport, failure
from bridges.sources.base import Source
from bridges.sources.remote import forget_listings
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.model import Run, Values
from bridges.stream.trend import trend

ATTEMPTS = 10  # how often to look again when another export of the run is faster
OnPhase = Callable[[str, str], None]
RunAction = Callable[[Run, Exporter, ExportOptions, OnPhase], RunReport]


def read_runs(location: str, options: ExportOptions) -> Iterator[Run]:
    """The runs at a location, under the names that the options give.

    Raises SourceError, and ConfigError where one name is given for several runs.
    """
    forget_listings([location])
    source = source_of(location, options.source)
    runs = guarded(source.read(location, options.read), location, source.name)
    if options.run_name and not options.read.growing:
        runs = _only_one(runs, location)
    for run in runs:
        yield replace(
            run,
            name=options.run_name or run.run_name or run.name,
            group=options.group or run.group,
            tags={**run.tags, **options.tags},
        )


def _only_one(runs: Iterator[Run], location: str) -> Iterator[Run]:
    """The one run of a location. Raises ConfigError before any is given if there are more."""
    first = next(runs, None)
    if first is None:
        return
    try:
        second = next(runs, None)
    except BridgeError:
        yield first
        raise
    if second is not None:
        raise ConfigError(
            f"--run-name names one run, and {location} holds several, such as {first.path} and "
            f"{second.path}. Name the directory of one run, or leave --run-name out: each run is "
            "named after its directory, and --group puts them together."
        )
    yield first


def guarded(runs: Iterator[Run], location: str, source: str) -> Iterator[Run]:
    """The runs of a source, with the rules for their keys; any foreign error of the source becomes
    a SourceError.
    """
    try:
        yield from map(with_key_rules, runs)
    except BridgeError:
        raise
    except Exception as error:  # deliberately broad: a source may come from a plug-in
        raise SourceError(
            location,
            found=f"{type(error).__name__}: {error}",
            expected=f"something that the source {source!r} can read",
            remedy="If it is what it should be, this is a bug of that source.",
        ) from error


def source_of(location: str, name: str | None) -> Source:
    """The source of that name, or the first that claims the location, built-in ones first."""
    if name:
        chosen: Source = plugins.find("sources", name).load()()
        return chosen
    for plug_in in plugins.built_in("sources"):
        source: Source = plug_in.load()()
        if source.claims(location):
            return source
    for plug_in in plugins.third_party("sources"):
        source = plug_in.load()()
        if source.claims(location):
            return source
    fallback: Source = plugins.find("sources", "trainer_state").load()()
    return fallback


def export_run(
    run: Run,
    exporter: Exporter,
    options: ExportOptions,
    on_phase: OnPhase = lambda run, phase: None,
) -> RunReport:
    """One run into one target. Raises ConfigError; all else that fails is in the report."""
    return _reported(_export, run, exporter, options, on_phase)


def verify_run(
    run: Run,
    exporter: Exporter,
    options: ExportOptions,
    on_phase: OnPhase = lambda run, phase: None,
) -> RunReport:
    """Compare one run with what the target holds; nothing is written."""
    return _reported(_verify, run, exporter, options, on_phase)


def _reported(
    action: RunAction, run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase
) -> RunReport:
    """The report of an action on a run; an error of the run becomes its report."""
    started = time.perf_counter()
    known: dict[str, Any] = {"run": run.name, "rows": len(run.stream), "findings": run.findings}
    try:
        report = action(with_key_rules(run), exporter, options, on_phase)
    except ConfigError:
        raise
    except BridgeError as error:
        silence = _silence(error)
        known["transient"] = silence is not None
        known["answered"] = silence is not None and silence.answered
        report = failure(run.source, exporter.name, str(error), **known)
    except Exception as error:  # deliberately broad: the one boundary of a run
        message = f"{type(error).__name__}: {error}. This is a bug of bridges or of a plug-in."
        report = failure(run.source, exporter.name, message, code="internal-error", **known)
    return replace(report, seconds=time.perf_counter() - started)


def _silence(error: BaseException | None) -> ExportError | None:
    """The error of a target that did not answer, which may be the cause of another one."""
    while error is not None:
        if isinstance(error, ExportError) and error.transient:
            return error
        error = error.__cause__
    return None


def _export(run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase) -> RunReport:
    """Try until it is done: every attempt looks anew at what the target holds."""
    for attempt in range(ATTEMPTS):
        with suppress(ConflictError), _patience(attempt, options.retries):
            return _attempt(run, exporter, options, on_phase)
    message = f"other exports of this run were faster {ATTEMPTS} times; try again"
    raise ExportError(message)


@contextmanager
def _patience(attempt: int, retries: int) -> Iterator[None]:
    """After a transient error a pause, unless there were too many already."""
    try:
        yield
    except ExportError as error:
        if not error.transient or error.waited or attempt >= retries:
            raise
        time.sleep(2**attempt * random.uniform(0.5, 1.0))


def _attempt(run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase) -> RunReport:
    placer = Placer(exporter, options.layout)
    seen, match = _found(run, placer, is_written=True)
    layout = continued(match, placer)
    refuse_nothing(layout, exporter.name)
    expected = expected_points(layout, exporter)
    report = _report(layout, match, placer, expected)
    if options.dry_run:
        return replace(report, status="planned", plan=report.status)
    existing = match.known.existing if match.known else None
    if existing is None or not _is_there(layout, match):
        on_phase(run.name, "writing")
        existing = exporter.write(layout, seen, existing)
        report = _placed(report, existing)
    if options.labels and report.status != "exported":
        on_phase(run.name, "renaming")
        existing, told = _relabelled(layout, existing, exporter, options.labels)
        report = replace(report, run=existing.name).with_findings(told)
    if options.verify:
        on_phase(run.name, "verifying")
        report = _verified(report, layout, match, existing, exporter, expected)
    if options.attach_source and report.status != "failed":
        on_phase(run.name, "attaching the source of")
        report = report.with_findings(attach_sources(run, existing, exporter))
    return report


def _found(
    run: Run, placer: Placer, *, is_written: bool = False
) -> tuple[Sequence[ExistingRun], Match]:
    """The runs of the target that may be this run, and the one that it continues."""
    identity = placer.identity(run)
    seen = placer.exporter.find(identity)
    match = resolve(run, identity, seen, placer)
    seen = [*seen, *found_by_tool_keys(match, placer)]
    return seen, resolve_logged(match, seen, placer, is_written=is_written)


def _relabelled(
    layout: Layout, existing: ExistingRun, exporter: Exporter, labels: Labels
) -> tuple[ExistingRun, list[Finding]]:
    """The run with the name, group and tags that were asked for, where its target can change it."""
    changed = None
    if isinstance(exporter, Relabels):
        changed = exporter.relabel(layout, existing, labels)
    if changed is not None:
        return changed, []
    message = f"the run is there as {existing.name!r}, whose name, group and tags cannot be changed"
    return existing, [Finding("labels-kept", Severity.INFO, exporter.name, message)]


def _is_there(layout: Layout, match: Match) -> bool:
    """Whether the target holds the whole layout; or more of its history, which is left as it is."""
    known = match.known
    if known is None or not known.complete or layout.replaces:
        return False
    return known.state.rows >= layout.rows or match.is_longer_there


def _report(
    layout: Layout, match: Match, placer: Placer, expected: Mapping[str, Points]
) -> RunReport:
    """What is about to be done, with all that is known of the run before it is."""
    exporter = placer.exporter
    known = match.known
    start, points = known.state.rows if known else 0, layout.points
    status = _status(layout, match)
    lost = _lost_in_storage(layout, exporter, expected)
    findings = [*layout.run.findings, *layout.findings, *lost]
    if known is not None and match.is_longer_there:
        findings.append(_target_is_longer(known.state.history, layout.history))
        findings += _results_not_added(layout, known, placer)
    if known is not None and match.alike:
        findings.append(_several_fit(known.existing, match.alike))
    if known is not None and not known.complete:
        message = "an earlier export was interrupted here; what it left out is added"
        findings.append(Finding("interrupted-before", Severity.INFO, exporter.name, message))
    report = RunReport(
        source=layout.run.source,
        run=layout.run.name,
        target=exporter.name,
        status=status,
        rows=layout.rows,
        points=points,
        new_points=layout.points_from(min(start, layout.rows)) if start else points,
        findings=tuple(findings),
        longest=max((len(series.rows) for series in layout.stream.series), default=0),
        trend=trend(layout.run.stream, layout.run.key_rules),
        key=layout.key,
        digest=layout.digest,
    )
    return _placed(report, known.existing) if known else report


def _placed(report: RunReport, existing: ExistingRun) -> RunReport:
    """The report of a run with its name and its place in the target."""
    return replace(
        report,
        run=existing.name,
        location=existing.location,
        run_id=existing.id,
        place=existing.place,
    )


def _status(layout: Layout, match: Match) -> str:
    """What is done to the run: one that never was complete is exported, not appended to."""
    if match.known is None or not match.known.state.append_rows:
        return "exported"
    return "unchanged" if _is_there(layout, match) else "appended"


def _several_fit(existing: ExistingRun, alike: int) -> Finding:
    message = (
        f"{alike + 1} runs there have these rows, and no settings beside the source tell "
        f"which is meant: {existing.name!r}, the first one, is taken"
    )
    return Finding("several-runs-fit", Severity.INFO, existing.location, message, alike + 1)


def _target_is_longer(there: int, rows: int) -> Finding:
    message = f"the target holds {there} rows of this history, and the source only {rows}"
    return Finding("target-is-longer", Severity.INFO, "all rows", message)


def _results_not_added(layout: Layout, known: Known, placer: Placer) -> list[Finding]:
    """Added rows that a target with a longer history lacks."""
    count = len(rows_lacking(layout.run, known.state, known.existing, placer))
    if not count:
        return []
    message = (
        "rows of results files are not added to a run of which the target holds a longer history: "
        "export the longest state with them, or delete the run there and export it again"
    )
    return [Finding("results-not-added", Severity.LOSS, layout.run.source, message, count)]


def _lost_in_storage(
    layout: Layout, exporter: Exporter, expected: Mapping[str, Points]
) -> list[Finding]:
    """Finite numbers that the target can only hold as infinity, and others only as zero."""
    findings = []
    every = [points.value for points in expected.values()]
    if not every or _has_neither(np.concatenate(every)):  # the usual case
        return []
    for series in layout.stream.numbers:
        if series.values.dtype == bool:
            continue
        stored = as_stored(exporter, series.values)
        for code, lost in (
            ("overflow-to-infinity", np.isinf(stored) & np.isfinite(series.values)),
            ("underflow-to-zero", (stored == 0) & (series.values != 0)),
        ):
            if lost.any():
                findings.append(_out_of_range(code, series.key, int(lost.sum()), exporter.name))
    return findings


def _has_neither(stored: Values) -> bool:
    """Whether no value is infinity (or NaN) or zero."""
    return bool(np.isfinite(stored).all() and stored.all())


def _out_of_range(code: str, tag: str, count: int, target: str) -> Finding:
    becomes = "infinity" if code == "overflow-to-infinity" else "zero"
    message = f"{target} holds these values as {becomes}, as with the live callback"
    return Finding(code, Severity.WARNING, f"tag {tag!r}", message, count)


def _verified(
    report: RunReport,
    layout: Layout,
    match: Match,
    existing: ExistingRun,
    exporter: Exporter,
    expected: Mapping[str, Points],
) -> RunReport:
    if match.is_longer_there:  # found by comparing all points, see `resolve`
        return replace(report, verified=True)
    recorded = exporter.read_back(existing)
    report = report.with_findings(secrets_in(recorded, exporter.name))
    if report.status != "exported" and isinstance(exporter, KeepsParams):  # maybe by an old version
        params = exporter.stored_params(existing)
        report = report.with_findings(secret_params_in(params, layout, exporter.name))
    wrong = compare(layout, recorded, expected)
    if not wrong:
        return replace(report, verified=True)
    return replace(report.with_findings(wrong), status="failed", verified=False)


def _verify(run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase) -> RunReport:
    on_phase(run.name, "verifying")
    placer = Placer(exporter, options.layout)
    _, match = _found(run, placer)
    layout, known = continued(match, placer), match.known
    expected = expected_points(layout, exporter)
    report = _report(layout, match, placer, expected)
    if known is None or not _is_there(layout, match):
        there = f"only {known.state.rows} of its {layout.rows} rows" if known else "no such run"
        message = f"the target holds {there}: run `bridge export` with the same options first"
        finding = Finding("not-in-target", Severity.ERROR, exporter.name, message)
        return replace(report.with_findings([finding]), status="failed", verified=False)
    return _verified(report, layout, match, known.existing, exporter, expected)
