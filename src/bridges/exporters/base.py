"""The exporter protocol: the four methods of a target, and protocols for optional abilities.

All state lives in the target. An exporter keeps none between calls: the caller passes the result of
`find` to `write`, and may repeat each call after any interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from bridges.exporters.state import State
from bridges.report import ArtifactCounts
from bridges.stream.finding import Finding
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64, Run, Values


@dataclass(frozen=True)
class ExistingRun:
    """A run in a target: its run key, name and location, and its state stored by bridges.

    `id`        the target's own id of the run
    `place`     the experiment or project of the run
    `complete`  False after an interrupted write: writing the run again completes it; None if
                unknown (see `SettlesCompleteness`)
    `deleted`   True if a user deleted the run: it cannot be continued
    `counted`   row count and last step, counted by the target itself
    `missing`   parts without which a finished run is incomplete: not asked for before, or removed
    """

    key: str
    name: str
    location: str
    state: State
    id: str = ""
    place: str = ""
    complete: bool | None = field(default=True, compare=False)
    deleted: bool = False
    counted: tuple[int, int] | None = None
    missing: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Points:
    """The points of one tag in a target: step (int64), value and time (float64, seconds since 1970
    UTC), n each.

    Values are of the type that `as_stored` returns: float64 by default.
    """

    step: Int64
    value: Values
    time: Float64


@dataclass(frozen=True)
class Recorded:
    """The content of a run in a target: points by tag, summary values, and other values.

    Other values (text, list, dict, None) are triples (tag, step, value). `params` are those of
    `KeepsParams`, if reading the points gives them as well. `findings` go into the report.
    """

    points: Mapping[str, Points] = field(default_factory=dict)
    others: tuple[tuple[str, int, object], ...] = ()
    summary: Mapping[str, object] = field(default_factory=dict)
    params: Mapping[str, object] | None = None
    findings: tuple[Finding, ...] = ()


@runtime_checkable
class ReadsPieces(Protocol):
    """A mapping in `Recorded.points` that can read the points of a tag in pieces.

    Points of a large run need as much memory as the run itself.
    """

    def pieces(self, tag: str) -> Iterator[Points]:
        """The points of a tag, sorted by step; within a step usually in the order of writing."""
        ...


@dataclass(frozen=True)
class Labels:
    """The user's name, group and tags for a run; None and empty by default."""

    name: str | None = None
    group: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.name or self.group or self.tags)


@dataclass(frozen=True)
class RecordGaps:
    """Details of a run's record missing from an existing run, by name.

    `missing`    the next write adds them
    `different`  the target keeps other values, which cannot be changed
    """

    missing: tuple[str, ...] = ()
    different: tuple[str, ...] = ()


NO_GAPS = RecordGaps()


class ConflictError(Exception):
    """Another writer changed the run first: call `find` again."""


class Exporter(Protocol):
    """A target. Plug-ins register a class of this shape under `bridges.exporters`.

    A class with an options model in its attribute `Options` (see `bridges.exporters.factory`) is
    built with an instance of this model; other classes get their options as keyword arguments.
    `naming` selects the tags: those of a live callback (`tensorboard`, `mlflow` or `wandb`), or the
    unchanged keys (`raw`). `BaseExporter` has the defaults, and the protocols below declare
    optional abilities.
    """

    name: str
    naming: str

    def find(self, identity: Identity) -> Sequence[ExistingRun]:
        """All runs of the target with the run key of the identity, or with one of its aliases."""
        ...

    def adapt(self, layout: Layout) -> Layout:
        """The layout adapted to the limits of the target, with a finding for each change."""
        ...

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run (`existing` is None), or the missing rows of an existing run.

        `seen` is the result of `find`, and `existing` is one of its runs. Rows from
        `existing.state.rows` on are new. An incomplete run is rewritten from row 0, and so is an
        existing run if `layout.replaces`. The write is atomic. Raises ConflictError if the target
        has other runs of the key than `seen`, or if `existing` has changed since; ExportError.
        """
        ...

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of a run. Raises VerifyError if they cannot be read."""
        ...


class BaseExporter:
    """The defaults of an exporter: raw keys and exact float64 values.

    A subclass defines at least `name`, `find`, `write` and `read_back`.
    """

    name: str
    naming = "raw"

    layout_options: Mapping[str, str] = MappingProxyType({})
    parallel = False
    view_label = "View"  # printed before `view_command`

    def adapt(self, layout: Layout) -> Layout:
        """The layout unchanged: the target has no limits."""
        return layout

    def as_stored(self, values: Values) -> Values:
        """Numbers (n) as float64."""
        return values.astype(np.float64)


@runtime_checkable
class StoresValues(Protocol):
    """An exporter whose target rounds or changes some numbers."""

    def as_stored(self, values: Values) -> Values:
        """Numbers (float64, int64 or bool, n) as `read_back` returns them."""
        ...


@runtime_checkable
class HasOptions(Protocol):
    """An exporter with options that are part of the run key.

    `layout_options` holds the options with values other than the default, by name.
    """

    layout_options: Mapping[str, str]


@runtime_checkable
class OwnsDirectory(Protocol):
    """An exporter whose directory no other target may share."""

    @property
    def own_directory(self) -> str:
        """The path of the directory."""
        ...


@runtime_checkable
class SettlesCompleteness(Protocol):
    """An exporter whose `find` leaves `complete` at None."""

    def is_complete(self, run: Run, existing: ExistingRun) -> bool:
        """Whether the target holds all rows recorded in the state of `existing`."""
        ...


@runtime_checkable
class Replaces(Protocol):
    """An exporter that can rewrite a run: `write` does so if `layout.replaces`."""

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """Whether a layout of `rows` rows can replace the run."""
        ...


@runtime_checkable
class RemovesLeftovers(Protocol):
    """An exporter without transactions: killed exports of a run may leave unfinished copies."""

    def remove_leftovers(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun
    ) -> int:
        """Remove unfinished copies of a complete run, if any. Returns their number.

        `seen` is the result of `find`. Raises ExportError.
        """
        ...


@runtime_checkable
class Relabels(Protocol):
    """An exporter whose target can change the name, group and tags of a run."""

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """Set the labels of a run that lacks them. Returns None if the target cannot change it.

        Raises ConflictError, ExportError.
        """
        ...


@runtime_checkable
class KeepsParams(Protocol):
    """An exporter whose target stores the params of a run."""

    def stored_params(self, existing: ExistingRun) -> Mapping[str, object]:
        """The params of a run in the target. Raises ExportError, VerifyError."""
        ...


@runtime_checkable
class KeepsRecords(Protocol):
    """An exporter whose target stores all of `Run.record`, such as status, tags and params."""

    def record_gaps(self, layout: Layout, existing: ExistingRun) -> RecordGaps:
        """The gaps of an existing run. Raises ExportError."""
        ...


@runtime_checkable
class KeepsFiles(Protocol):
    """An exporter whose target stores files with a run."""

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store these files (content by name) with the run, once. Raises ExportError."""
        ...


@runtime_checkable
class CopiesArtifacts(Protocol):
    """An exporter that can copy the artifact files which the record of a run names."""

    copies_artifacts: bool

    def copy_artifacts(
        self,
        layout: Layout,
        existing: ExistingRun | None,
        mode: Literal["copy", "compare", "plan"],
        on_progress: Callable[[str], None],
    ) -> tuple[ArtifactCounts, list[Finding]]:
        """Copy the missing and the different files, compare all files, or count those to copy.

        `existing` is None only with `plan`, for a run that is not in the target. Returns the
        counts, and findings about files that cannot be copied or differ. Raises ExportError.
        """
        ...


@runtime_checkable
class KnowsKeys(Protocol):
    """An exporter that knows, for less than a look-up, which run keys its target lacks."""

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the target may have a run from a tool's log with one of these keys."""
        ...


@runtime_checkable
class Preloads(Protocol):
    """An exporter that can list all runs of its experiment or project by one request.

    Only dry runs of several runs use it.
    """

    def preload(self) -> None:
        """List the runs; later `find` calls use that listing. Raises ExportError."""
        ...


@runtime_checkable
class WritesBatches(Protocol):
    """An exporter that writes several small runs faster in one transaction."""

    def batch(self) -> AbstractContextManager[None] | None:
        """One transaction for all calls inside. Each `write` stays all or nothing.

        Raises ConflictError or ExportError at its end, if nothing was written. None if this target
        has no transactions for several runs.
        """
        ...


@runtime_checkable
class Parallel(Protocol):
    """An exporter for a remote target: if `parallel`, threads call it for several runs at once."""

    parallel: bool


@runtime_checkable
class Viewable(Protocol):
    """An exporter whose runs have a viewer."""

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The command or page for viewing these runs; None without one.

        `longest` is the largest number of points of a tag.
        """
        ...


@runtime_checkable
class HasPage(Protocol):
    """An exporter whose viewer has a page for the runs."""

    def view_page(self, locations: Sequence[str]) -> str:
        """The URL of the page of these runs in the running viewer."""
        ...


def as_stored(exporter: Exporter, values: Values) -> Values:
    """Numbers (n) in the form of an exporter's target: float64 by default."""
    if isinstance(exporter, BaseExporter | StoresValues):
        return exporter.as_stored(values)
    return values.astype(np.float64)


def copies_artifacts(exporter: Exporter) -> bool:
    """Whether an exporter copies the artifact files of runs."""
    return isinstance(exporter, CopiesArtifacts) and exporter.copies_artifacts


def layout_options(exporter: Exporter) -> Mapping[str, str]:
    """The options of an exporter that are part of the run key."""
    return exporter.layout_options if isinstance(exporter, BaseExporter | HasOptions) else {}
