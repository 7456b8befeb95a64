"""Tasks: the units of work of a migration, each read once and written to one or more targets.

A directory tree has one task for each part of its runs. A target with a limit has separate tasks,
so the engine can delay them without delaying other targets.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridges.errors import BridgeError, SourceError
from bridges.exporters.receipts import RunReceipt
from bridges.migration.config.config import MigrationConfig, SourceSpec
from bridges.migration.config.targets import TargetSpec
from bridges.pipeline.read_runs import source_of
from bridges.report import RunReport, failure
from bridges.sources.base import Divides, Part, Source
from bridges.sources.remote import forget_listings
from bridges.sources.trainer.locations import GLOB
from bridges.sources.trainer.paths import has_nothing


@dataclass(frozen=True, slots=True)
class Task:
    """The runs of one place (a part of a tree, or the location of a file) for some targets.

    `size` is the approximate size in bytes, 0 if unknown. `is_first` is true for one task of each
    place; other tasks read it again for other targets. `done` are the sources of the runs reported
    before the target stopped answering. `settings` are the settings digests by target label, for
    targets with receipts. `plan` identifies the plan of the task.
    """

    source: SourceSpec
    place: Part | str
    targets: tuple[TargetSpec, ...]
    size: int = 0
    is_first: bool = True
    done: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    plan: str = ""

    @property
    def origin(self) -> str:
        """The common prefix of the sources of its runs: the location, up to its first wildcard."""
        return GLOB.split(self.place if isinstance(self.place, str) else self.place.location)[0]

    @property
    def location(self) -> str:
        """The location to show in messages."""
        if isinstance(self.place, str):
            return self.place
        return next(iter(self.place.files), self.place.location)

    def without(self, labels: Collection[str]) -> Task:
        """The task without the targets with these labels."""
        targets = tuple(target for target in self.targets if target.label not in labels)
        return replace(self, targets=targets)


@dataclass(frozen=True)
class Left:
    """The rest of a task whose target did not answer, and the report of the failure."""

    task: Task
    report: RunReport


@dataclass(frozen=True)
class Done:
    """The result of a task.

    `left_out` has the source and reason of each run excluded by the filters, `left` the parts to
    retry later, `receipts` the new receipts by target label.
    """

    reports: tuple[RunReport, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    left: tuple[Left, ...] = ()
    receipts: Mapping[str, tuple[RunReceipt, ...]] = field(default_factory=dict)


def plan(
    config: MigrationConfig,
    settings: Callable[[SourceSpec], Mapping[str, str]] = lambda source: {},
) -> tuple[list[Task], list[RunReport]]:
    """The tasks of a migration, the largest first, and the reports of unreadable locations.

    `settings` returns the settings digests of a source, by target label.
    """
    tasks: list[Task] = []
    failed: list[RunReport] = []
    own, groups = os.urandom(8).hex(), _together(config.targets)
    forget_listings(spec.location for spec in config.sources)
    for spec in config.sources:
        try:
            source = source_of(spec.location, spec.source, spec.read_options())
            places = _places(spec, source)
        except SourceError as error:
            failed += (unread(error, spec.location, target) for target in config.targets)
            continue
        known = settings(spec) if isinstance(source, Divides) else {}
        tasks += (
            Task(spec, place, targets, size, number == 0, settings=known, plan=own)
            for place, size in places
            for number, targets in enumerate(groups)
        )
    tasks.sort(key=lambda task: -task.size)
    return tasks, failed


def _places(spec: SourceSpec, source: Source) -> list[tuple[Part | str, int]]:
    if isinstance(source, Divides):
        return [(part, part.size) for part in source.split(spec.location)]
    is_file = os.path.isfile(spec.location)
    return [(spec.location, os.path.getsize(spec.location) if is_file else 0)]


def _together(targets: Sequence[TargetSpec]) -> list[tuple[TargetSpec, ...]]:
    """The targets grouped by task: all without a limit together, each with a limit alone."""
    free = tuple(target for target in targets if target.limit is None)
    limited = [(target,) for target in targets if target.limit is not None]
    return [*([free] if free else []), *limited]


def failed(task: Task, why: str, code: str = "worker") -> Done:
    """The result of a task that failed for all targets."""
    return Done(
        tuple(failure(task.location, target.label, why, code=code) for target in task.targets)
    )


def unread(
    error: BridgeError, location: str, target: TargetSpec, read: Collection[str] = ()
) -> RunReport:
    """The report of a read error; `read` are the output directories of the runs read so far."""
    source = getattr(error, "source", location)
    missing = has_nothing(error, read)
    return failure(source, target.label, str(error), code="source", missing=missing)
