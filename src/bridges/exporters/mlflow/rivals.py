"""Runs with one key from several exports: the choice of the run that stays.

Exports of a run at the same time may create a run each, and a killed export leaves one behind. A
run is *young* until its first export ends. An export only removes young runs with its own history
or the beginning of it, so no data is lost: an export whose run was removed looks for the run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from bridges.exporters.base import ExistingRun
from bridges.exporters.mlflow.details import record_of
from bridges.exporters.mlflow.state import MlflowRun, begun, is_young, state_of
from bridges.exporters.state import State
from bridges.stream.identity import prefix_digest
from bridges.stream.layout import Layout


class Verdict(Enum):
    """Which of two runs stays: that of this export, the other one, or both."""

    OURS = 0
    THEIRS = 1
    BOTH = 2


class _History(Enum):
    """The history of another run, in relation to that of this export."""

    SAME = 0
    SHORTER = 1
    LONGER = 2
    OTHER = 3


def keys_to_settle(runs: Iterable[tuple[str, MlflowRun]]) -> dict[str, set[str]]:
    """The ids of active young runs by run key."""
    found: dict[str, set[str]] = {}
    for key, run in runs:
        if run.is_active and not run.superseded and is_young(run):
            found.setdefault(key, set()).add(run.run_id)
    return found


@dataclass(frozen=True)
class Settlement:
    """The verdicts of one export; `seen` are the runs that it found before, `existing` is the one
    that it continues (None: it creates a run).
    """

    layout: Layout
    seen: Mapping[str, State]
    existing: ExistingRun | None

    @classmethod
    def of(
        cls, layout: Layout, seen: Iterable[ExistingRun], existing: ExistingRun | None
    ) -> Settlement:
        """The settlement of an export."""
        return cls(layout, {run.id: run.state for run in seen}, existing)

    @cached_property
    def _is_ours_young(self) -> bool:
        old = self.existing
        return old is None or not (old.complete or old.state.append_rows)

    def verdict(self, ours: str, rival: MlflowRun) -> Verdict:
        """The verdict on our run, by its id, and another active run with its key."""
        state = state_of(rival.state)
        if state is None or state.settings.contradict(self.layout.run.settings):
            return Verdict.BOTH
        history = self._history(state)
        if history is _History.OTHER:
            return Verdict.BOTH
        before = self.seen.get(rival.run_id)
        is_compared = before is not None and (
            bool(before.append_rows) or before in (state, begun(state))
        )
        if history is _History.LONGER or not is_young(rival):
            is_new = self._is_ours_young and not is_compared
            return Verdict.THEIRS if is_new else Verdict.BOTH
        if self.existing is None and is_compared:  # found to be another run
            return Verdict.BOTH
        is_first = not self._is_ours_young or ours < rival.run_id
        return Verdict.OURS if is_first or history is _History.SHORTER else Verdict.THEIRS

    def _history(self, state: State) -> _History:
        """The history of another run after its write in progress."""
        goal, layout = state, self.layout
        if state.pending is not None:
            goal = replace(state, rows=state.pending.rows, digest=state.pending.digest)
        rows = goal.history
        if rows > layout.history:
            return _History.LONGER
        found = _History.SAME if rows == layout.history else _History.SHORTER
        if state.pending is not None and record_of(layout) is not None:  # a run of that id
            return found
        mine = layout.digest if rows == layout.history else prefix_digest(layout.run.history, rows)
        return found if goal.digest == mine else _History.OTHER
