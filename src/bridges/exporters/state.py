"""The state of a run in its target, for the next export: one codec for all targets.

Each target stores the text of a `State`: MLflow in a tag, W&B in the config, event files in their
first record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.receipts import Receipt
from bridges.stream.added import AddedRow, following_series, joined, rows_of
from bridges.stream.identity import prefix_digest
from bridges.stream.layout import EARLIEST_RULES, Layout
from bridges.stream.logged import Ranges, checked
from bridges.stream.model import MetricStream, RowKind, Run
from bridges.stream.settings import Settings

TRAINER = "trainer"  # the key style of runs without one in their state
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True)
class Pending:
    """A write in progress: row count and digest of the run after it, and the writer's id."""

    rows: int
    digest: str
    writer: str


@dataclass(frozen=True)
class State:
    """The rows of a run, and the options of its export.

    `rows`         number of rows
    `added`        rows outside the history, including those of a write in progress
    `digest`       digest of the history
    `clock`        name of the clock
    `append_rows`  row count after each write
    `layout`       layout options other than the defaults
    `times`        digest of the times, unless the log alone gives them
    `rules`        version of the rules of the first write
    `logged`       rows of the history from a log beside the source file
    `style`        key style of the run
    """

    rows: int
    digest: str
    clock: str
    append_rows: tuple[int, ...]
    layout: Mapping[str, str]
    pending: Pending | None = None
    times: str = ""
    rules: int = EARLIEST_RULES
    added: tuple[AddedRow, ...] = ()
    settings: Settings = field(default_factory=Settings)
    logged: Ranges = ()
    style: str = TRAINER

    def text(self, longest: int) -> str:
        """The state as text of at most `longest` characters.

        Row counts of early writes are dropped if needed; only `--duplicates last` uses them.
        Raises ExportError if they are needed, or if the text is still too long.
        """
        text = self._json(self.append_rows)
        if len(text) <= longest:
            return text
        if self.layout.get("duplicates") == "last":
            raise ExportError(
                f"the run was written in {len(self.append_rows)} parts, more than an MLflow tag "
                "can hold with --duplicates last. Delete the run in MLflow and export it in one "
                "piece with --force."
            )
        text = self._json(self.append_rows[-1:])
        if len(text) > longest:
            raise ExportError(
                f"{len(self.added)} rows from results files or event files are more than a tag of "
                f"{longest:,} characters can describe. Export the trainer_state.json alone: with "
                "--source trainer_state, and without --fill-from-events."
            )
        return text

    @property
    def history(self) -> int:
        """The number of history rows of the run."""
        return self.rows - sum(added.row < self.rows for added in self.added)

    def seen_by(self, run: Run) -> State:
        """The state translated to the present rules, for comparison with a run."""
        return self._recognised(run)._with_saved(run)

    def _recognised(self, run: Run) -> State:
        """The state with `added` rows; the first version counted them as history."""
        if self.added or self.rules > EARLIEST_RULES:
            return self
        for count in range(len(run.earlier_added), 0, -1):
            history = self.rows - count
            earlier = _earlier_stream(run, history)
            if earlier is not None and self._is_of(earlier):
                added = rows_of(earlier, range(history, self.rows))
                return replace(self, digest=prefix_digest(run.history, history), added=added)
        return self

    def _is_of(self, stream: MetricStream) -> bool:
        return len(stream) == self.rows and prefix_digest(stream, self.rows) == self.digest

    def _with_saved(self, run: Run) -> State:
        """The state with added rows counted as history if the run's history now contains them.

        They must directly follow the history, in the same order.
        """
        history = self.rows - len(self.added)
        last = [row for at, row in enumerate(self.added) if row.row >= history + at]
        if self.pending or not last or len(run.history) <= history:
            return self
        if prefix_digest(run.history, history) != self.digest:
            return self
        rows = range(history, min(history + len(last), len(run.history)))
        saved, added = [*rows_of(run.history, rows)], [*self.added]
        for row in last:
            if saved and row.equals(saved[0]):
                added.remove(row)
                del saved[0]
        count = len(self.added) - len(added)
        digest = prefix_digest(run.history, history + count)
        return replace(self, digest=digest, added=tuple(added)) if count else self

    def agrees_with(self, receipt: Receipt) -> bool:
        """Whether a run in this state is complete and has the rows of the receipt."""
        return self.pending is None and (self.rows, self.digest) == (receipt.rows, receipt.digest)

    def fields(self) -> dict[str, Any]:
        """The state as a JSON object; empty and default values are left out."""
        state: dict[str, Any] = {
            "rows": self.rows,
            "digest": self.digest,
            "clock": self.clock,
            "cuts": self.append_rows,
            "layout": dict(self.layout),
        }
        if self.times:
            state["times"] = self.times
        if self.pending:
            state["pending"] = vars(self.pending)
        if self.rules > EARLIEST_RULES:
            state["rules"] = self.rules
        if self.added:
            state["added"] = [row.as_json() for row in self.added]
        if self.settings != Settings():
            state["settings"] = self.settings.as_json()
        if self.logged:
            state["logged"] = self.logged
        if self.style != TRAINER:
            state["style"] = self.style
        return state

    def _json(self, append_rows: tuple[int, ...]) -> str:
        return json.dumps({**self.fields(), "cuts": append_rows})

    @classmethod
    def parse(cls, text: str) -> State:
        """The state of a text. Raises one of `UNREADABLE` for other texts."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> State:
        """The state of a JSON object. Raises one of `UNREADABLE` for other objects."""
        pending, settings = state.get("pending"), state.get("settings")
        if not state["digest"] or (state["cuts"] or [0])[-1] != state["rows"]:
            raise ValueError(state)
        return cls(
            rows=int(state["rows"]),
            digest=str(state["digest"]),
            clock=str(state["clock"]),
            append_rows=tuple(map(int, state["cuts"])),
            layout=dict(state["layout"]),
            pending=Pending(**pending) if pending else None,
            times=str(state.get("times", "")),
            rules=int(state.get("rules", EARLIEST_RULES)),
            added=tuple(map(AddedRow.parse, state.get("added", ()))),
            settings=Settings.parse(settings) if settings else Settings(),
            logged=checked(state.get("logged", ())),
            style=str(state.get("style", TRAINER)),
        )


NO_STATE = State(rows=0, digest="", clock="", append_rows=(), layout={})  # of deleted runs


def whole_state(layout: Layout, before: State | None = None) -> State:
    """The state of a run with all rows of the layout; `before` is its previous state."""
    earlier = before.append_rows if before else ()
    is_known = earlier[-1:] == (layout.rows,)
    return State(
        rows=layout.rows,
        digest=layout.digest,
        clock=layout.clock.name,
        append_rows=earlier if is_known else (*earlier, layout.rows),
        layout=dict(layout.identity.options),
        times=layout.times_digest(layout.rows),
        rules=layout.rules,
        added=rows_of(layout.run.stream, layout.run.added),
        settings=layout.run.settings,
        logged=layout.run.logged,
        style=layout.run.key_style,
    )


def begun_state(layout: Layout, before: State | None, writer: str) -> State:
    """The state of a run during the write of the layout."""
    pending = Pending(layout.rows, layout.digest, writer)
    goal = replace(whole_state(layout), pending=pending)
    rows = before.rows if before else 0
    history = rows - sum(added < rows for added in layout.run.added)
    digest = prefix_digest(layout.run.history, history)
    if before is None:
        return replace(goal, rows=0, digest=digest, append_rows=(), times="")
    times, append_rows = before.times, before.append_rows
    return replace(goal, rows=rows, digest=digest, append_rows=append_rows, times=times)


def _earlier_stream(run: Run, history: int) -> MetricStream | None:
    """The first `history` rows as the first version read them; None for a shorter history."""
    if not 0 < history <= len(run.history):
        return None
    first = run.history.take(np.arange(history))
    known = {series.key for series in first.series if len(series.rows)}
    step = int(first.step[-1])
    fresh = [values for values in run.earlier_added if values.keys() - known]
    rows = [AddedRow(0, RowKind.TEST, step, values) for values in fresh]
    # a key of both kinds of rows has two series, which the digest depends on
    return replace(joined(first, rows), series=(*first.series, *following_series(first, rows)))
