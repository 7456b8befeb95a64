"""The match of a run: the existing run in the target that it continues."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bridges.exporters.base import ExistingRun, Exporter, SettlesCompleteness
from bridges.exporters.state import State
from bridges.stream.finding import Finding
from bridges.stream.identity import Identity, prefix_digest
from bridges.stream.model import Run


@dataclass(frozen=True)
class Known:
    """An existing run, compared with a run of the source.

    `state` is its stored state by today's rules; it counts an interrupted write only if the target
    holds all rows of that write. `complete` is False if the last write was interrupted.
    """

    existing: ExistingRun
    state: State
    complete: bool

    @property
    def order(self) -> tuple[int, bool]:
        """Sort key: most rows first, complete runs before incomplete ones."""
        return -self.state.rows, not self.complete


@dataclass(frozen=True)
class Match:
    """A run of the source, and the existing run that it continues (None: the run is new).

    `run` starts with the rows that the target holds. `alike` is the number of other existing runs
    that fit as well. If it `replaces` the existing run, the whole run is written again.
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


def known_to(run: Run, seen: Iterable[ExistingRun], exporter: Exporter) -> list[Known]:
    """The existing runs that may be continued: not deleted, and without the interrupted write of
    another history.
    """
    found = [_known(run, existing, exporter) for existing in seen if not existing.deleted]
    return [known for known in found if known]


def _known(run: Run, existing: ExistingRun, exporter: Exporter) -> Known | None:
    state, pending = existing.state, existing.state.pending
    complete = existing.complete
    if complete is None and isinstance(exporter, SettlesCompleteness):
        complete = exporter.is_complete(run, existing)
    goal = replace(state, rows=pending.rows, digest=pending.digest) if pending else state
    history = goal.rows - len(state.added)
    if history > len(run.history):  # more rows than the run has: its points are compared
        state, complete = goal, True
    elif (
        pending
        and not run.logs  # the rows may be those of a log
        and pending.digest != prefix_digest(run.history, history)
    ):
        return None
    existing = replace(existing, complete=bool(complete))
    return Known(existing, state.seen_by(run), bool(complete))


def allows(state: State, run: Run) -> bool:
    """Whether an existing run with these settings can be this run."""
    mine, theirs, history = run.settings, state.settings, len(run.history)
    if state.history > history:
        return mine.is_same_run(theirs, equal_rows=False)
    return theirs.is_same_run(mine, equal_rows=state.history == history)
