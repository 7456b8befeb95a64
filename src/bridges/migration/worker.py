"""The code of a worker: reads the runs of its tasks and exports them.

Small runs are read in batches before they are exported, which keeps CPU caches warm (about 10 %
faster).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from threading import local

from bridges.errors import BridgeError, ConfigError, TreeError
from bridges.exporters.base import Exporter, Preloads
from bridges.exporters.receipts import Receipt, RunReceipt, SupportsReceipts
from bridges.migration import fingerprint
from bridges.migration.config.targets import TargetSpec
from bridges.migration.tasks import Done, Left, Task, failed, unread
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import guarded, source_of
from bridges.pipeline.small_runs import export_group, grouped
from bridges.report import RunReport, failure
from bridges.short_retries import short_retries
from bridges.sources.base import Divides
from bridges.sources.remote import forget_listings
from bridges.sources.trainer.checkpoint_paths import output_of
from bridges.sources.trainer.paths import with_rows
from bridges.stream.model import Run

AHEAD, AHEAD_BYTES = 16, 4 << 20  # maximum tasks, and bytes of their files, to read ahead
RETRIES = 1  # immediate retries of a run; the engine retries later
FINGERPRINTS = "content_fingerprint", "stat_fingerprint"  # of a receipt
PLANS = 4  # plans with cached exporters


class _Made(local):
    """The cached exporters of a thread, by plan, target and experiment, and the last plan for each
    location.
    """

    def __init__(self) -> None:
        self.exporters: dict[tuple[str, str, str | None], Exporter] = {}
        self.plans: dict[str, str] = {}


_MADE = _Made()


def drop_exporters() -> None:
    """Drop the exporters of this thread, which close their connections, at the end of a worker."""
    _MADE.exporters.clear()
    gc.collect()


@dataclass(frozen=True)
class _Reading:
    """A task, its runs, and its files if a target stores receipts."""

    task: Task
    runs: Iterator[Run]
    files: fingerprint.Files | None = None

    @classmethod
    def of(cls, task: Task, dry_run: bool, *, ahead: bool = False) -> _Reading:
        """Start to read a task; with `ahead` all of its runs are read now."""
        files = None
        if task.settings and not dry_run:
            with suppress(Exception):  # deliberately broad: reading the runs reports the error
                files = fingerprint.Files(task.place)  # before it is read
        return cls(task, _ahead(_runs(task)) if ahead else _runs(task), files)

    def digests(self) -> tuple[str, str] | None:
        """The content and stat fingerprints of the files; None if they cannot be read."""
        with suppress(Exception):  # deliberately broad: a receipt only saves time
            return (self.files.digest(), self.files.stat_fingerprint) if self.files else None
        return None


def _readings(tasks: Sequence[Task], dry_run: bool) -> Iterator[_Reading]:
    """The tasks with their runs, in their order."""
    some: list[Task] = []
    size = 0
    for task in tasks:
        files = 1 if isinstance(task.place, str) else len(task.place.files)
        own = task.size * files or AHEAD_BYTES  # the size of remote files is unknown
        if some and (len(some) == AHEAD or size + own > AHEAD_BYTES):
            yield from _read(some, dry_run)
            some, size = [], 0
        some.append(task)
        size += own
    yield from _read(some, dry_run)


def _read(tasks: Sequence[Task], dry_run: bool) -> list[_Reading]:
    return [_Reading.of(task, dry_run, ahead=len(tasks) > 1) for task in tasks]


def _ahead(runs: Iterator[Run]) -> Iterator[Run]:
    """Read all runs now; an exception is raised again after the runs before it."""
    read: list[Run] = []
    raised: list[Exception] = []
    try:
        for run in runs:
            read.append(run)  # noqa: PERF402 - keeps the runs before an error
    except Exception as error:  # deliberately broad: raised again below
        raised.append(error)

    def again() -> Iterator[Run]:
        yield from read
        for error in raised:
            raise error

    return again()


AllDone = tuple[list[Done], float]


def carry_out_all(tasks: Sequence[Task], *, dry_run: bool) -> AllDone:
    """Carry out tasks in order. Returns the results without receipts, and the seconds taken.

    Stops after a task with a silent target, and before a task with a ConfigError; if it is the
    first task, the error is raised. New receipts are saved.
    """
    began, done = time.perf_counter(), []
    _forget_earlier_listings(tasks)
    for reading in _readings(tasks, dry_run):
        task = reading.task
        try:
            done.append(_carry_out(reading, dry_run))
        except ConfigError:
            if done:  # report these first
                break
            raise
        except Exception as error:  # deliberately broad: one task fails, not its batch
            done.append(failed(task, f"{type(error).__name__}: {error}"))
        if done[-1].left:
            break
    _save_receipts(tasks, done)
    return [replace(each, receipts={}) for each in done], time.perf_counter() - began


def _forget_earlier_listings(tasks: Sequence[Task]) -> None:
    """Clear the listings of locations of an earlier plan: cluster workers outlive migrations."""
    for task in tasks:
        location = task.source.location
        if _MADE.plans.setdefault(location, task.plan) != task.plan:
            _MADE.plans[location] = task.plan
            forget_listings([location])


def _save_receipts(tasks: Sequence[Task], done: Sequence[Done]) -> None:
    """Save the receipts of finished tasks, one call per target."""
    targets = {target.label: target for task in tasks for target in task.targets}
    receipts: dict[str, list[RunReceipt]] = {}
    for each in done:
        for label, some in each.receipts.items():
            receipts.setdefault(label, []).extend(some)
    for label, runs in receipts.items():
        with short_retries(), suppress(Exception):  # deliberately broad: a receipt only saves time
            exporter = _exporter(targets[label], None, tasks[0].plan)
            if isinstance(exporter, SupportsReceipts):
                exporter.save_receipts(runs)


def carry_out(task: Task, *, dry_run: bool) -> Done:
    """Read the runs of a task and export each to its targets. Raises ConfigError.

    After a target fails to answer, its remaining runs are returned in `Done.left`.
    """
    return _carry_out(_Reading.of(task, dry_run), dry_run)


def _carry_out(reading: _Reading, dry_run: bool) -> Done:
    task = reading.task
    reports: list[RunReport] = []
    left_out: list[tuple[str, str]] = []
    left: dict[str, Left] = {}
    seen: list[str] = []
    try:
        for group in grouped(reading.runs):
            done = task.done[len(seen) :]
            ready = [
                _Prepared.of(run, task, done[at : at + 1] == (run.source,))
                for at, run in enumerate(group)
            ]
            written = {to.label: _exported(ready, task, to, dry_run) for to in task.targets}
            for one in ready:
                if one.run is None:
                    left_out.append((one.source, task.source.why_not(one.read)))
                for target in task.targets if one.is_written else ():
                    if target.label in left:
                        continue
                    report = next(written[target.label])
                    if report.transient:
                        left[target.label] = _left(task, target, seen, report)
                    else:
                        reports.append(report)
                seen.append(one.source)
                if reading.files:
                    reading.files.was_read(one.read)
                del one
            ready.clear()  # its runs may be large, and the next ones are read now
            written.clear()
    except ConfigError:  # of a target, so it concerns all runs
        raise
    except BridgeError as error:
        errors = error.errors if isinstance(error, TreeError) else [error]
        targets = [target for target in task.targets if target.label not in left]
        read = {*map(output_of, seen)}
        reports += (unread(one, task.location, to, read) for one in errors for to in targets)
    complete = [to for to in task.targets if to.label not in left and not task.done]
    receipts = _receipts(reading, complete, reports, len(left_out))
    return Done(tuple(reports), tuple(left_out), tuple(left.values()), receipts)


def _left(task: Task, target: TargetSpec, seen: Sequence[str], report: RunReport) -> Left:
    """The rest of the task, after the runs `seen`, for one target."""
    return Left(replace(task, targets=(target,), is_first=False, done=tuple(seen)), report)


def _receipts(
    reading: _Reading, targets: Sequence[TargetSpec], reports: Sequence[RunReport], left_out: int
) -> dict[str, tuple[RunReceipt, ...]]:
    """The receipts of a task, by target with all of its runs verified."""
    task, found = reading.task, {}
    for target in targets:
        mine = [report for report in reports if report.target == target.label]
        is_right = all(
            report.verified and not report.failed and report.source.startswith(task.origin)
            for report in mine
        )
        if mine and is_right and target.label in task.settings:
            found[target.label] = mine
    digests = reading.digests() if found else None
    if digests is None:
        return {}
    receipts = {}
    for label, mine in found.items():
        prints = [each and fingerprint.combined(each, task.settings[label]) for each in digests]
        receipts[label] = tuple(
            _run_receipt(task, report, prints, len(mine), left_out) for report in mine
        )
    return receipts


def _run_receipt(
    task: Task, report: RunReport, prints: Sequence[str], runs: int, left_out: int
) -> RunReceipt:
    """The receipt of a run; `prints` are the content and stat fingerprints."""
    content, stat = prints
    receipt = Receipt(
        content_fingerprint=content,
        stat_fingerprint=stat,
        runs=runs,
        left_out=left_out,
        source=report.source.removeprefix(task.origin),
        digest=report.digest,
        rows=report.rows,
        points=report.points,
        trend=report.trend,
        trend_metric=report.trend_metric,
    )
    return RunReceipt.of(report, receipt)


@dataclass(frozen=True)
class _Prepared:
    """A run as it was `read`, and as its targets get it: None if the filters exclude it.

    `error`: it lacks a field of a template. `is_done`: it was reported before.
    """

    read: Run
    run: Run | None
    experiment: str | None
    is_done: bool
    error: ConfigError | None = None

    @classmethod
    def of(cls, run: Run, task: Task, is_done: bool) -> _Prepared:
        try:
            taken = task.source.prepare(run)
            return cls(run, taken, task.source.experiment_of(run), is_done)
        except ConfigError as error:
            return cls(run, run, None, is_done, error)

    @property
    def source(self) -> str:
        return self.read.source

    @property
    def is_written(self) -> bool:
        return self.run is not None and not self.is_done


def _exported(
    runs: Sequence[_Prepared], task: Task, target: TargetSpec, dry_run: bool
) -> Iterator[RunReport]:
    """The reports of the runs that are written to a target."""
    chosen: ExportOptions = task.source.export_options(target)
    options = replace(chosen, dry_run=dry_run, retries=RETRIES)
    written = [one for one in runs if one.is_written]
    for (experiment, error), same in groupby(written, lambda one: (one.experiment, one.error)):
        some = [one.run for one in same if one.run]
        try:
            if error:
                raise error
            exporter = _exporter(target, experiment, task.plan, dry_run)
        except ConfigError as why:
            if not error and experiment is None:
                raise
            # planning made the exporter without the experiment
            yield from (_misnamed(run, target, why) for run in some)
            continue
        reports = export_group(some, exporter, options)
        for _ in some:
            with short_retries():
                report = next(reports)
            yield replace(report, target=target.label)


def _misnamed(run: Run, target: TargetSpec, error: ConfigError) -> RunReport:
    """The report of a run with an illegal name."""
    return failure(
        run.source, target.label, str(error), code="config", run=run.name, rows=len(run.stream)
    )


def _runs(task: Task) -> Iterator[Run]:
    options = task.source.read_options()
    source = source_of(task.source.location, task.source.source, options)
    if isinstance(task.place, str):
        runs = source.read(task.place, options)
    else:
        assert isinstance(source, Divides)  # only such sources are split into parts
        runs = source.read_part(task.place, options)
    yield from with_rows(task.location, guarded(runs, task.location, source, options))


def _exporter(
    target: TargetSpec, experiment: str | None, plan: str, dry_run: bool = False
) -> Exporter:
    """The exporter of a target and experiment, made once for each thread and plan.

    In a dry run it preloads the runs of its target.
    """
    known = target.label if plan else target.model_dump_json()  # a plan has each label once
    key, made = (plan, known, experiment), _MADE.exporters
    if key not in made:
        # cluster workers outlive migrations: remove the exporters of old plans
        kept = [plan, *dict.fromkeys(other[0] for other in reversed(made))][:PLANS]
        for other in [other for other in made if other[0] not in kept]:
            del made[other]
        exporter = target.exporter(experiment)
        if dry_run and isinstance(exporter, Preloads):
            with suppress(Exception):  # deliberately broad: `find` reports the error
                exporter.preload()
        made[key] = exporter
    return made[key]
