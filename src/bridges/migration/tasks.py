"""Tasks: the pieces of a migration, each read once and written into some of its targets.

A directory tree is one task for each part of its runs. A target with a limit gets tasks of its
own, so that the engine can hold them back without holding up the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridges.errors import BridgeError, SourceError
from bridges.exporters.marks import RunReceipt
from bridges.migration.config import MigrationConfig, SourceSpec
from bridges.migration.targets import TargetSpec
from bridges.pipeline import source_of
from bridges.report import RunReport, failure
from bridges.sources.base import Divides, Part, Source
from bridges.sources.discovery import GLOB
from bridges.sources.places import has_nothing
from bridges.sources.remote import forget_listings


@dataclass(frozen=True, slots=True)
class Task:
    """Runs of one place (a part of a tree, or the location of a file) for some targets, by their
    labels. `size` is about how many bytes there are to read, 0 where that is not known; `is_first`
    tells one task of each place from those that read it again for another target. `done` are the
    sources of its first runs, which were told of before their target did not answer. `settings` (by
    label) are the one half of its fingerprints that is known before it is read, of the targets that
    want them; `plan` tells the tasks of one plan from those of another.
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

    def without(self, labels: Collection[str]) -> Task:
        """The task for its other targets."""
        targets = tuple(target for target in self.targets if target.label not in labels)
        return replace(self, targets=targets)


@dataclass(frozen=True)
class Left:
    """What is left of a task because its one target did not answer, and the report of that."""

    task: Task
    report: RunReport


@dataclass(frozen=True)
class Done:
    """What a task did: the reports, the runs that the config leaves out (source and reason), what
    is left of it to do later, and the receipts of its runs by target.
    """

    reports: tuple[RunReport, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    left: tuple[Left, ...] = ()
    receipts: Mapping[str, tuple[RunReceipt, ...]] = field(default_factory=dict)


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
    """The targets that one task serves: all without a limit, and each with one."""
    free = tuple(target for target in targets if target.limit is None)
    limited = [(target,) for target in targets if target.limit is not None]
    return [*([free] if free else []), *limited]


def failed(task: Task, why: str, code: str = "worker") -> Done:
    """A task of which nothing could be done."""
    return Done(
        tuple(failure(task.location, target.label, why, code=code) for target in task.targets)
    )


def unread(
    error: BridgeError, location: str, target: TargetSpec, read: Collection[str] = ()
) -> RunReport:
    """The report of what could not be read; `read` are the output directories of what could."""
    source = getattr(error, "source", location)
    missing = has_nothing(error, read)
    message = str(error).replace("--salvage", "`salvage: true` in the config")
    message = message.replace("--max-unpacked BYTES", "`max_unpacked: BYTES` in the config")
    return failure(source, target.label, message, code="source", missing=missing)
