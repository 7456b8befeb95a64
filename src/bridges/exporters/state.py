"""What a target keeps of a run for the next export: how much of which history it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridges.errors import ExportError
from bridges.exporters.base import Held
from bridges.exporters.marks import Mark
from bridges.stream.identity import prefix_digest
from bridges.stream.layout import Layout


@dataclass(frozen=True)
class Pending:
    """A write under way: the rows that the run is to hold, their digest, and who writes."""

    rows: int
    digest: str
    writer: str


@dataclass(frozen=True)
class State:
    """What a run holds: rows, their digest, the clock of its times, and the rows after each write.

    `layout` are the choices that make it another run than the usual one, `times` a digest of the
    times where the log alone does not give them.
    """

    rows: int
    digest: str
    clock: str
    cuts: tuple[int, ...]
    layout: Mapping[str, str]
    pending: Pending | None = None
    times: str = ""

    def text(self, longest: int) -> str:
        """The tag's value. After very many writes it forgets the earlier ones, which only the
        policy to keep the last of duplicates needs. Raises ExportError where that is the policy.
        """
        text = self._json(self.cuts)
        if len(text) <= longest:
            return text
        if self.layout.get("duplicates") == "last":
            raise ExportError(
                f"the run was written in {len(self.cuts)} parts, more than MLflow's tags can tell "
                "with --duplicates last. Delete it there and export it in one piece with --force."
            )
        return self._json(self.cuts[-1:])

    def held(self, name: str, location: str, key: str, *, whole: bool = True) -> Held:
        """The run at a location that this state is of."""
        known = (self.rows, self.digest, self.clock, self.cuts)
        return Held(name, location, key, *known, whole, self.times)

    def is_marked(self, mark: Mark) -> bool:
        """Whether a run of this state is whole, and as it was when it got that mark."""
        return self.pending is None and (self.rows, self.digest) == (mark.rows, mark.digest)

    def _json(self, cuts: tuple[int, ...]) -> str:
        state: dict[str, Any] = {
            "rows": self.rows,
            "digest": self.digest,
            "clock": self.clock,
            "cuts": cuts,
            "layout": dict(self.layout),
        }
        if self.times:
            state["times"] = self.times
        if self.pending:
            state["pending"] = vars(self.pending)
        return json.dumps(state)

    @classmethod
    def parse(cls, text: str) -> State:
        """The state that a tag holds. Raises ValueError, KeyError or TypeError for other texts."""
        state = json.loads(text)
        pending = state.get("pending")
        if not state["digest"] or (state["cuts"] or [0])[-1] != state["rows"]:
            raise ValueError(text)
        return cls(
            rows=int(state["rows"]),
            digest=str(state["digest"]),
            clock=str(state["clock"]),
            cuts=tuple(map(int, state["cuts"])),
            layout=dict(state["layout"]),
            pending=Pending(**pending) if pending else None,
            times=str(state.get("times", "")),
        )


def whole_state(layout: Layout, earlier: tuple[int, ...] = ()) -> State:
    """The state of a run that holds all of the layout; `earlier` are the cuts of its writes."""
    cuts = earlier if earlier[-1:] == (layout.rows,) else (*earlier, layout.rows)
    times = layout.times_digest(layout.rows)
    known = (layout.rows, layout.digest, layout.clock.name, cuts, dict(layout.identity))
    return State(*known, times=times)


def begun_state(layout: Layout, held: Held | None, writer: str) -> State:
    """The state of a run into which the layout is being written."""
    pending = Pending(layout.rows, layout.digest, writer)
    if held is None:
        nothing = prefix_digest(layout.run.stream, 0)
        empty = replace(whole_state(layout), rows=0, digest=nothing, cuts=(), times="")
        return replace(empty, pending=pending)
    there = replace(whole_state(layout), rows=held.rows, digest=held.digest, cuts=held.cuts)
    return replace(there, times=held.times, pending=pending)
