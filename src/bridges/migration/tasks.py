"""Tasks: the pieces of a migration, each read once and written into some of its targets.

A directory tree is one task for each bundle of its runs. A target with a limit gets tasks of its
own, so that the engine can hold them back without holding up the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import local
from typing import Any

from bridges.errors import BridgeError, ConfigError, SourceError, TreeError
from bridges.exporters.base import Exporter
from bridges.exporters.brief import briefly
from bridges.exporters.marks import Mark, Marked, Remembering
from bridges.migration import fingerprint
from bridges.migration.config import MigrationConfig, SourceSpec
from bridges.migration.targets import TargetSpec
from bridges.pipeline import ExportOptions, export_run, guarded, source_of
from bridges.report import RunReport, failure
from bridges.sources.base import Source
from bridges.sources.bundles import Bundle
from bridges.sources.discovery import GLOB
from bridges.sources.remote import forget_listings
from bridges.sources.run_directory import RunDirectorySource
from bridges.sources.text import MissingSourceError
from bridges.stream.model import Run

RETRIES = 1  # of a run, at once: the engine has more patience, and shares it
PLANS = 4  # whose exporters are kept


class _Made(local):
    """The exporters of a thread, by the plan that they serve and by their place."""

    def __init__(self) -> None:
        self.exporters: dict[tuple[str, str, str | None], Exporter] = {}


_MADE = _Made()


@dataclass(frozen=True, slots=True)
class Task:
    """Runs of one place (a part of a tree, or the location of a file) for some targets, by their
    labels. `size` is about how many bytes there are to read, 0 where that is not known; `is_first`
    tells one task of each place from those that read it again for another target. `done` are the
    sources of its first runs, which were told of before their target did not answer. `files` and
    `settings` (by label) are the two halves of its fingerprints, as far as they are known and
    wanted; `plan` tells the tasks of one plan from those of another.
    """

    source: SourceSpec
    place: Bundle | str
    targets: tuple[TargetSpec, ...]
    size: int = 0
    is_first: bool = True
    done: tuple[str, ...] = ()
    files: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    plan: str = ""

    @property
    def origin(self) -> str:
        """How the sources of its runs begin: the place that was migrated, or what all that its
        pattern matches has in common.
        """
        return GLOB.split(self.place if isinstance(self.place, str) else self.place.location)[0]

    @property
    def location(self) -> str:
        """Where it reads, for people."""
        if isinstance(self.place, str):
            return self.place
        return next(iter(self.place.files), self.place.location)


@dataclass(frozen=True)
class Left:
    """What is left of a task because its one target did not answer, and the report of that."""

    task: Task
    report: RunReport


@dataclass(frozen=True)
class Done:
    """What a task did: the reports, the runs that the config leaves out (source and reason), what
    is left of it to do later, and the marks that its runs are to have, by target.
    """

    reports: tuple[RunReport, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    left: tuple[Left, ...] = ()
    marks: Mapping[str, tuple[Marked, ...]] = field(default_factory=dict)


def plan(
    config: MigrationConfig,
    settings: Callable[[SourceSpec], Mapping[str, str]] = lambda source: {},
) -> tuple[list[Task], list[RunReport]]:
    """The tasks of a migration, the largest first, and reports of places that have none.

    `settings` gives those of the tasks of a source.
    """
    tasks: list[Task] = []
    failed: list[RunReport] = []
    own, groups = os.urandom(8).hex(), _together(config.targets)
    forget_listings(spec.location for spec in config.sources)
    for spec in config.sources:
        try:
            source = source_of(spec.location, spec.source)
            places = _places(spec, source)
        except SourceError as error:
            failed += (_unread(error, spec.location, target) for target in config.targets)
            continue
        # what else a plug-in reads, nobody knows
        known = settings(spec) if type(source).__module__.startswith("bridges.") else {}
        tasks += (
            Task(spec, place, targets, size, number == 0, settings=known, plan=own)
            for place, size in places
            for number, targets in enumerate(groups)
        )
    tasks.sort(key=lambda task: -task.size)
    return tasks, failed


def _places(spec: SourceSpec, source: Source) -> list[tuple[Bundle | str, int]]:
    if not isinstance(source, RunDirectorySource):
        is_file = os.path.isfile(spec.location)
        return [(spec.location, os.path.getsize(spec.location) if is_file else 0)]
    return [(bundle, bundle.size) for bundle in source.split(spec.location)]


def _together(targets: Sequence[TargetSpec]) -> list[tuple[TargetSpec, ...]]:
    """The targets that one task serves: all without a limit, and each with one."""
    free = tuple(target for target in targets if target.limit is None)
    limited = [(target,) for target in targets if target.limit is not None]
    return [*([free] if free else []), *limited]


AllDone = tuple[list[Done], float]


def carry_out_all(tasks: Sequence[Task], *, dry_run: bool) -> AllDone:
    """Some tasks, one after the other, and the seconds they took. Those after one whose target did
    not answer are not begun, nor one that raises ConfigError, unless it is the first. The marks are
    set and not given back.
    """
    began, done = time.perf_counter(), []
    for task in tasks:
        try:
            done.append(carry_out(task, dry_run=dry_run))
        except ConfigError:
            if done:  # these are told first
                break
            raise
        except Exception as error:  # deliberately broad: one task fails, not those beside it
            done.append(failed(task, f"{type(error).__name__}: {error}"))
        if done[-1].left:
            break
    _remember(tasks, done)
    return [replace(each, marks={}) for each in done], time.perf_counter() - began


def _remember(tasks: Sequence[Task], done: Sequence[Done]) -> None:
    """Set the marks of what was done, those of a target together."""
    targets = {target.label: target for task in tasks for target in task.targets}
    marks: dict[str, list[Marked]] = {}
    for each in done:
        for label, some in each.marks.items():
            marks.setdefault(label, []).extend(some)
    for label, runs in marks.items():
        with briefly(), suppress(Exception):  # deliberately broad: a mark only saves time
            exporter = _exporter(targets[label], None, tasks[0].plan)
            if isinstance(exporter, Remembering):
                exporter.remember(runs)


def failed(task: Task, why: str, code: str = "worker") -> Done:
    """A task of which nothing could be done."""
    return Done(
        tuple(failure(task.location, target.label, why, code=code) for target in task.targets)
    )


def carry_out(task: Task, *, dry_run: bool) -> Done:
    """Read the runs of a task and export each into its targets. Raises ConfigError.

    A target that does not answer is not asked again: the rest of its runs is left.
    """
    reports: list[RunReport] = []
    left_out: list[tuple[str, str]] = []
    left: dict[str, Left] = {}
    seen: list[str] = []
    files = _files(task, dry_run)  # before they are read: what changes meanwhile is not taken for
    try:
        for run in _runs(task):
            is_done = task.done[len(seen) :][:1] == (run.source,)
            targets = [] if is_done else [to for to in task.targets if to.label not in left]
            found = _exported(run, task, targets, dry_run)
            if found is None:
                left_out.append((run.source, task.source.why_not(run)))
            for target, report in zip(targets, found or (), strict=False):
                if report.transient:
                    left[target.label] = _left(task, target, seen, report)
                else:
                    reports.append(report)
            seen.append(run.source)
    except ConfigError:  # of a target: no run can be written into it
        raise
    except BridgeError as error:
        errors = error.errors if isinstance(error, TreeError) else [error]
        told = [target for target in task.targets if target.label not in left]
        reports += (_unread(one, task.location, target) for one in errors for target in told)
    whole = [to for to in task.targets if to.label not in left and not task.done]
    marks = _marks(task, whole, files, reports, len(left_out)) if files else {}
    return Done(tuple(reports), tuple(left_out), tuple(left.values()), marks)


def _left(task: Task, target: TargetSpec, seen: Sequence[str], report: RunReport) -> Left:
    """What comes after the runs that were seen, for one target."""
    return Left(replace(task, targets=(target,), is_first=False, done=tuple(seen)), report)


def _files(task: Task, dry_run: bool) -> str | None:
    """The digest of the files of a task, if a target is to remember it."""
    return None if dry_run or not task.settings else task.files or fingerprint.files_of(task.place)


def _marks(
    task: Task,
    targets: Sequence[TargetSpec],
    files: str,
    reports: Sequence[RunReport],
    left_out: int,
) -> dict[str, tuple[Marked, ...]]:
    """The marks of the runs of a task, for each of these targets where all of them are right."""
    marks = {}
    for target in targets:
        mine = [report for report in reports if report.target == target.label]
        is_right = all(
            report.verified and not report.failed and report.source.startswith(task.origin)
            for report in mine
        )
        if mine and is_right and target.label in task.settings:
            made_of = fingerprint.made_of(files, task.settings[target.label])
            common = {"made_of": made_of, "runs": len(mine), "left_out": left_out}
            marks[target.label] = tuple(_marked(task, report, common) for report in mine)
    return marks


def _marked(task: Task, report: RunReport, common: Mapping[str, Any]) -> Marked:
    mark = Mark(
        **common,
        source=report.source.removeprefix(task.origin),
        digest=report.digest,
        rows=report.rows,
        points=report.points,
        course=report.course,
    )
    return Marked(report.key, report.run, report.location or "", mark)


def _exported(
    run: Run, task: Task, targets: Sequence[TargetSpec], dry_run: bool
) -> list[RunReport] | None:
    """What was done with a run for these targets; None where the config leaves it out."""
    try:
        taken = task.source.prepare(run)
        experiment = task.source.experiment_of(run)
    except ConfigError as error:  # a name that this run has nothing for
        return [_misnamed(run, target, error) for target in targets]
    if taken is None:
        return None
    return [_export(taken, task, to, experiment, dry_run) for to in targets]


def _misnamed(run: Run, target: TargetSpec, error: ConfigError) -> RunReport:
    """Of a run that the config gives no name which the target takes."""
    known: dict[str, Any] = {"run": run.name, "rows": len(run.stream), "code": "config"}
    return failure(run.source, target.label, str(error), **known)


def _runs(task: Task) -> Iterator[Run]:
    options = task.source.read_options()
    tree = RunDirectorySource()
    if isinstance(task.place, Bundle):
        return guarded(tree.read_bundle(task.place, options), task.location, tree.name)
    source: Source = source_of(task.place, task.source.source)
    return guarded(source.read(task.place, options), task.place, source.name)


def _export(
    run: Run, task: Task, target: TargetSpec, experiment: str | None, dry_run: bool
) -> RunReport:
    chosen: ExportOptions = task.source.export_options(target)
    options = replace(chosen, dry_run=dry_run, retries=RETRIES)
    try:
        exporter = _exporter(target, experiment, task.plan, dry_run)
    except ConfigError as error:
        if experiment is None:
            raise
        return _misnamed(run, target, error)  # who plans has made the exporter without that
    with briefly():
        report = export_run(run, exporter, options)
    return replace(report, target=target.label)


def _exporter(
    target: TargetSpec, experiment: str | None, plan: str, dry_run: bool = False
) -> Exporter:
    """The exporter of a target and experiment: each thread makes it once for a plan. One of a dry
    run asks its target once for all runs.
    """
    known = target.label if plan else target.model_dump_json()  # a plan has each label once
    key, made = (plan, known, experiment), _MADE.exporters
    if key not in made:
        # workers of a cluster outlive migrations, and what they know of these
        kept = [plan, *dict.fromkeys(other[0] for other in reversed(made))][:PLANS]
        for other in [other for other in made if other[0] not in kept]:
            del made[other]
        exporter = target.exporter(experiment)
        preload = getattr(exporter, "preload", None)
        if dry_run and preload is not None:
            with suppress(Exception):  # deliberately broad: `find` tells what is wrong
                preload()
        made[key] = exporter
    return made[key]


def _unread(error: BridgeError, location: str, target: TargetSpec) -> RunReport:
    missing = isinstance(error, MissingSourceError)
    source = getattr(error, "source", location)
    message = str(error).replace("--salvage", "`salvage: true` in the config")
    return failure(source, target.label, message, code="source", missing=missing)
