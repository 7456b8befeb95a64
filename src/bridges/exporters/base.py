"""The exporter protocol: the four methods of a target, and what some targets can also do.

State lives in the target. An exporter keeps none between the calls: what `find` saw is handed to
`write`, and each call may be repeated after any interruption.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.state import State
from bridges.stream.identity import Identity
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64, Run


@dataclass(frozen=True)
class ExistingRun:
    """A run in a target: its run key, name and location, and the state that bridges left there.

    `id` is the target's own id of the run, and `place` the experiment or project that it lies in.
    A run that is not `complete` was left by an interrupted write: writing it again completes it
    (None: the target cannot tell, see `SettlesCompleteness`). A `deleted` run was deleted by a
    person and cannot be continued. `counted` is how many rows the target itself counts, and their
    last step.
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


@dataclass(frozen=True)
class Points:
    """The points of one tag as the target holds them: step (int64), value (float64 or narrower)
    and time (float64, seconds since 1970 UTC), each of n entries.
    """

    step: Int64
    value: NDArray[Any]
    time: Float64


@dataclass(frozen=True)
class Recorded:
    """The content of a run in a target: points by tag, summary values, and the values that are not
    numbers (text, list, dict, None) as (tag, step, value).
    """

    points: Mapping[str, Points] = field(default_factory=dict)
    others: tuple[tuple[str, int, Any], ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """How the user wants a run to be called; None and empty where nothing was asked."""

    name: str | None = None
    group: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.name or self.group or self.tags)


class ConflictError(Exception):
    """Another writer was faster: find the run again."""


class Exporter(Protocol):
    """A target. Plug-ins register a class of this shape under `bridges.exporters`.

    A class with a model of its options in the attribute `Options` (see `bridges.exporters.factory`)
    is built with an instance of it, another one with the options as keyword arguments.
    `rules` is the target whose naming rules hold (`tensorboard`, `mlflow`, `wandb`), or `raw`.
    `BaseExporter` has the defaults; the protocols below are for targets that can do more.
    """

    name: str
    rules: str

    def find(self, identity: Identity) -> Sequence[ExistingRun]:
        """All runs of the target with the run key of the identity, or with one of its aliases."""
        ...

    def adapt(self, layout: Layout) -> Layout:
        """The layout as the target can hold it, with a finding for each change and each loss."""
        ...

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write a new run (`existing` is None), or the rows that an existing run lacks.

        `seen` is the answer of `find`, and `existing` is one of it. Rows from `existing.state.rows`
        on are new; an incomplete run, and a layout that `replaces` the run, are written whole. All
        or nothing. Raises ConflictError if the target holds other runs of the key than `seen`, or
        the existing run has changed since; ExportError.
        """
        ...

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points of a run. Raises VerifyError if they cannot be read."""
        ...


class BaseExporter:
    """The defaults of an exporter: raw keys, and float64 values as they are.

    A subclass has at least a `name`, and the methods `find`, `write` and `read_back`.
    """

    name: str
    rules = "raw"

    def adapt(self, layout: Layout) -> Layout:
        """The layout unchanged: the target can hold everything."""
        return layout


@runtime_checkable
class StoresValues(Protocol):
    """An exporter whose target does not hold every number exactly."""

    def as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Numbers (float64, int64 or bool, n) as `read_back` gives them."""
        ...


@runtime_checkable
class HasOptions(Protocol):
    """An exporter with options of its own that make another run of the same history.

    `layout_options` are those that are not the default, by name; they are part of the run key.
    """

    layout_options: Mapping[str, str]


@runtime_checkable
class SettlesCompleteness(Protocol):
    """An exporter whose `find` cannot tell whether a run is complete."""

    def is_complete(self, run: Run, existing: ExistingRun) -> bool:
        """Whether the target holds all rows that the state of `existing` says, of this run."""
        ...


@runtime_checkable
class Replaces(Protocol):
    """An exporter that can rewrite a whole run: `write` does for a layout that `replaces` it."""

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """Whether a layout of that many rows can take the place of this run."""
        ...


@runtime_checkable
class Relabels(Protocol):
    """An exporter whose target can change how a run is called."""

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun | None:
        """The run with these labels, unchanged if it has them; None if it cannot change.

        Raises ConflictError, ExportError.
        """
        ...


@runtime_checkable
class KeepsParams(Protocol):
    """An exporter whose target keeps the params of a run, and gives them back."""

    def stored_params(self, existing: ExistingRun) -> Mapping[str, Any]:
        """The params of a run as the target holds them. Raises ExportError, VerifyError."""
        ...


@runtime_checkable
class KeepsFiles(Protocol):
    """An exporter whose target keeps files beside a run."""

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Keep these files (content by name) beside the run, once. Raises ExportError."""
        ...


@runtime_checkable
class KnowsKeys(Protocol):
    """An exporter that has a list of the run keys in its target."""

    def may_hold(self, keys: Collection[str]) -> bool:
        """Whether the target may hold a run with one of these keys, as far as the list tells."""
        ...


@runtime_checkable
class Preloads(Protocol):
    """An exporter that can list all runs of its place by one request, for a dry run of many."""

    def preload(self) -> None:
        """List the runs; later `find` calls use that listing. Raises ExportError."""
        ...


@runtime_checkable
class Parallel(Protocol):
    """An exporter that waits for a network: if `parallel`, threads write several runs at once."""

    parallel: bool


@runtime_checkable
class Viewable(Protocol):
    """An exporter whose runs people can look at."""

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The next command to type (or the page) to look at these runs.

        `longest` is the largest number of points of a tag.
        """
        ...


def as_stored(exporter: Exporter, values: NDArray[Any]) -> NDArray[Any]:
    """Numbers (n) as the target of an exporter holds them: float64, unless it says otherwise."""
    if isinstance(exporter, StoresValues):
        return exporter.as_stored(values)
    return values.astype(np.float64)


def layout_options(exporter: Exporter) -> Mapping[str, str]:
    """The options of an exporter that make another run of the same history."""
    return exporter.layout_options if isinstance(exporter, HasOptions) else {}
