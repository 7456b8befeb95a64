"""Which run of the target an export continues: by rows and settings, never by names.

All runs of the key are seen at once; the answer is the run of the source with the rows that the
target has, and the existing run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bridges.exporters.base import ExistingRun, Exporter, SettlesCompleteness
from bridges.exporters.state import State
from bridges.pipeline.compare import holds_rows
from bridges.pipeline.earlier_results import with_earlier_results
from bridges.pipeline.layouts import Placer
from bridges.stream.finding import Finding
from bridges.stream.identity import Identity, prefix_digest
from bridges.stream.model import Run


@dataclass(frozen=True)
class Known:
    """An existing run as a run of the source sees it.

    `state` is its state by the rules of today, `existing` the run as the target has it.
    """

    existing: ExistingRun
    state: State
    complete: bool

    @property
    def order(self) -> tuple[int, bool]:
        """Runs with more rows come first, then complete ones."""
        return -self.state.rows, not self.complete


@dataclass(frozen=True)
class Match:
    """A run of the source, and the run of the target that it continues (None: it is new).

    `run` has the rows that the target has; `alike` is how many other runs could be meant as well.
    A run that `replaces` the existing one takes its place as a whole.
    """

    run: Run
    identity: Identity
    known: Known | None = None
    alike: int = 0
    replaces: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def is_longer_there(self) -> bool:
        """Whether the target holds more of the history than the source."""
        return self.known is not None and self.known.state.history > len(self.run.history)


def resolve(run: Run, identity: Identity, seen: Sequence[ExistingRun], placer: Placer) -> Match:
    """The existing run that holds this history, an older part of it, or more of it."""
    own = known_to(run, (one for one in seen if one.key == identity.key), placer.exporter)
    return (
        _by_rows(run, identity, own)
        or _by_rows(run, identity, _with_earlier_results(run, own, placer))
        or _longer(run, identity, own, placer)
        or Match(run, identity)
    )


def known_to(run: Run, seen: Iterable[ExistingRun], exporter: Exporter) -> list[Known]:
    """Existing runs as a run sees them, without deleted ones and useless beginnings."""
    found = [_known(run, existing, exporter) for existing in seen if not existing.deleted]
    return [known for known in found if known]


def _known(run: Run, existing: ExistingRun, exporter: Exporter) -> Known | None:
    """None if an interrupted write of another history makes the run useless."""
    state, pending = existing.state, existing.state.pending
    complete = existing.complete
    if complete is None and isinstance(exporter, SettlesCompleteness):
        complete = exporter.is_complete(run, existing)
    goal = replace(state, rows=pending.rows, digest=pending.digest) if pending else state
    history = goal.rows - len(state.added)
    if history > len(run.history):  # it holds more than the run, or not all: its points tell
        state, complete = goal, True
    elif (
        pending
        and not run.logs  # the rows may be those of a log
        and pending.digest != prefix_digest(run.history, history)
    ):
        return None
    existing = replace(existing, complete=bool(complete))
    return Known(existing, state.seen_by(run), bool(complete))


def _with_earlier_results(run: Run, known: list[Known], placer: Placer) -> Iterator[Known]:
    """Existing runs of the first version with its results as added rows."""
    for one in known:
        state = with_earlier_results(run, one.state, one.existing, placer) if one.complete else None
        if state:
            yield replace(one, state=state)


def _by_rows(run: Run, identity: Identity, known: Iterable[Known]) -> Match | None:
    """The run with this history or its beginning.

    Of several that fit, those whose settings contradict come last; then the longest history counts,
    and those with the same settings come before those whose settings are unknown.
    """
    mine = identity.settings
    fitting = [one for one in known if allows(one.state, run) and _begins(run, identity, one)]
    fitting.sort(
        key=lambda one: (
            one.state.settings.contradict(mine),
            -one.state.history,
            *one.order,
            one.state.settings.digest != mine.digest,
        )
    )
    if not fitting:
        return None
    first, *others = fitting
    is_sure = first.state.settings.digest == mine.digest != ""
    alike = 0 if is_sure else sum(one.state.rows == first.state.rows for one in others)
    return Match(run, identity, first, alike)


def _longer(run: Run, identity: Identity, known: list[Known], placer: Placer) -> Match | None:
    """The run that holds more of the history, told by its points."""
    longer = [
        one for one in known if one.state.history > len(run.history) and allows(one.state, run)
    ]
    bare = run
    if longer and run.added:  # their place depends on where the history ends
        bare = replace(run, stream=run.history, added=(), evidence=())
    for one in sorted(longer, key=lambda one: one.order):
        layout = placer.place(bare, identity, rules=one.state.rules)
        if holds_rows(layout, placer.exporter.read_back(one.existing), placer.exporter):
            return Match(run, identity, one)
    return None


def _begins(run: Run, identity: Identity, known: Known) -> bool:
    """Whether the history of an existing run is that of the run, or its beginning."""
    rows, history = known.state.history, len(run.history)
    digest = identity.digest if rows == history else prefix_digest(run.history, rows)
    return rows <= history and digest == known.state.digest


def allows(state: State, run: Run) -> bool:
    """Whether the settings of an existing run allow that it is this run."""
    mine, theirs, history = run.settings, state.settings, len(run.history)
    if state.history > history:
        return mine.is_same_run(theirs, equal_rows=False)
    return theirs.is_same_run(mine, equal_rows=state.history == history)
