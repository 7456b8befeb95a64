"""The exporter protocol: find what the target holds, write rows, read them back.

State lives in the target, so an exporter has none that matters: the order of calls is find, then
write or not, then read_back, and each may be repeated after any interruption.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from bridges.stream.added import AddedRow
from bridges.stream.finding import Finding
from bridges.stream.layout import EARLIEST_RULES, Layout
from bridges.stream.logged import Ranges
from bridges.stream.model import Float64, Int64
from bridges.stream.settings import Settings


@dataclass(frozen=True)
class Held:
    """A run that a target holds: where, under which key, and how much of which history.

    `rows` is the number of its rows, `digest` that of its history (see
    `bridges.stream.identity.prefix_digest`), `cuts` the row counts after each write, `clock` what
    its times are made of (`Clock.name`), `times` a digest of them where the log alone does not give
    them, and `name` how it is shown. A run that is not `whole` was left by an interrupted write:
    writing it again mends it.

    `rules` is the version of the rules by which it was written first, `added` are its rows that are
    not part of the history (in an interrupted write, those that it was adding, too), and `settings`
    tell runs with equal rows apart. `logged` are the rows of its history that come from a log,
    `alike` is the number of other runs that could be meant as well.
    """

    name: str
    location: str
    key: str
    rows: int
    digest: str
    clock: str
    cuts: tuple[int, ...]
    whole: bool = True
    times: str = ""
    rules: int = EARLIEST_RULES
    added: tuple[AddedRow, ...] = ()
    settings: Settings = field(default_factory=Settings)
    logged: Ranges = ()
    alike: int = field(default=0, compare=False)

    @property
    def history(self) -> int:
        """How many rows of the history it holds."""
        return self.rows - sum(added.row < self.rows for added in self.added)


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
    """What a target holds of a run: points by tag, summary values, and the values that are no
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


@runtime_checkable
class Relabels(Protocol):
    """An exporter whose target can change how a run is called."""

    def relabel(self, layout: Layout, held: Held, labels: Labels) -> Held | None:
        """The run with these labels, unchanged if it has them; None where that run cannot change.

        Raises ConflictError, ExportError.
        """
        ...


class ConflictError(Exception):
    """Another writer was faster: look again at what the target holds."""


class Exporter(Protocol):
    """A target. Plug-ins register a class of this shape under `bridges.exporters`.

    A class with a model of its options in the attribute `Options` (see `bridges.exporters.factory`)
    is built with an instance of it, another one with the options as keyword arguments.
    `rules` is the target whose naming rules hold (`tensorboard`, `mlflow`, `wandb`), or `raw`.
    One that also has `parallel = True` is called for several runs at the same time, by threads. One
    that has a method `preload(self) -> None` asks its target there once for all runs of the place;
    `find` answers from that from then on. It is called where nothing will be written. One that has
    a method `can_replace(self, layout: Layout, held: Held) -> bool` can rewrite a run: where the
    layout's run `replaces` it, `write` puts the whole layout in its place.
    """

    name: str
    rules: str

    def fit(self, layout: Layout) -> Layout:
        """The layout without what the target cannot hold at all, with a finding for each."""
        ...

    def find(self, layout: Layout) -> list[Held]:
        """Every run with the layout's key that the target holds and that can go on from there."""
        ...

    def write(self, layout: Layout, held: Held | None) -> Held:
        """Write the whole run (`held` is None), or its rows from `held.rows` on; all or nothing.

        Raises ConflictError where someone else did so meanwhile, ExportError where it cannot.
        """
        ...

    def read_back(self, held: Held) -> Recorded:
        """All that the target holds of the run. Raises VerifyError where it cannot be read."""
        ...

    def attach(self, held: Held, files: Mapping[str, bytes]) -> bool:
        """Keep these files (content by name) beside the run, once; False where it cannot at all.

        Raises ExportError where it fails.
        """
        ...

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values (numbers, n) as the target can hold them."""
        ...

    def notes(self, layout: Layout) -> list[Finding]:
        """What people should know of how this target will show the run."""
        ...

    def hint(self, locations: list[str], longest: int) -> str | None:
        """The next command to type to look at these; `longest` is the most points of a tag."""
        ...
