"""Runs that were exported from a tool's log before a state was saved.

The target stores such a run under the key of the log's first row, with the log's rows. If a log
lies beside a state, the run is looked up under both keys and continues from the stored rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bridges.compare import compare, expected_points
from bridges.continuing import continued
from bridges.exporters.base import Exporter, Held
from bridges.stream.added import arranged
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import prefix_digest
from bridges.stream.layout import Layout, LayoutOptions, lay_out
from bridges.stream.logged import as_stored
from bridges.stream.model import Run

MOST_RANGES = 50  # of rows from a log, between rows of a state: what every target can store
Look = Callable[[Layout, Exporter, LayoutOptions], Held | None]


def recognised(
    layout: Layout,
    exporter: Exporter,
    options: LayoutOptions,
    look: Look,
    *,
    is_written: bool = False,
) -> tuple[Layout, Held | None]:
    """The run of the target that is this one, and the layout with the rows that it has.

    `look` finds a run by the layout alone; its key must be the last that an exporter is asked for.
    Where the run `is_written` next and the target can be rewritten, exact rows replace those of the
    log that the target has.
    """
    if not layout.run.logs:
        return layout, look(layout, exporter, options)
    by_logs = _found_by_logs(layout, exporter, options)
    held = look(layout, exporter, options)
    if held is not None:
        return layout, held
    for held in sorted(
        [*by_logs, *exporter.find(layout)], key=lambda run: (-run.rows, not run.whole)
    ):
        for stored, exact in _views(layout.run, held):
            if _is_one(stored, held):
                lay = _Layer(exporter, options, held)
                better = lay.replacing(stored, exact, layout.run) if is_written else None
                return better or lay.out(_noted(stored, layout.run)), held
    return layout, None


def _found_by_logs(layout: Layout, exporter: Exporter, options: LayoutOptions) -> list[Held]:
    """The runs of the target under the keys of the logs' first rows."""
    found: dict[str, list[Held]] = {}
    for log in layout.run.logs:
        run = replace(layout.run, stream=log.stream, added=(), evidence=(), trial=None)
        other = exporter.fit(lay_out(run, exporter.rules, replace(options, clock=None)))
        if other.key != layout.key and other.key not in found:
            found[other.key] = exporter.find(other)
    return [held for runs in found.values() for held in runs]


def _views(run: Run, held: Held) -> Iterator[tuple[Run, Run | None]]:
    """The run as it is, and with the rows of its logs that the target may have; each of these also
    with exact rows in their place.
    """
    if held.history <= len(run.history):
        yield run, None
    logged = held.logged or ((0, held.history, 0),)
    for log in run.logs:
        stored = as_stored(run, log, logged, held.history)
        if stored is not None:
            yield stored, as_stored(run, log, logged, held.history, exact=True)


def _is_one(stored: Run, held: Held) -> bool:
    """Whether a run of the target has the rows of this one, and settings that allow it."""
    equal_rows = held.history == len(stored.history)
    return (
        held.settings.is_same_run(stored.settings, equal_rows=equal_rows)
        and prefix_digest(stored.history, held.history) == held.digest
    )


@dataclass(frozen=True)
class _Layer:
    """Lays out runs for a target that holds one under a key of its own."""

    exporter: Exporter
    options: LayoutOptions
    held: Held

    def out(self, run: Run) -> Layout:
        """The layout of a run under the key that the target has for it."""
        keyed = replace(run, key=self.held.key)
        return self.exporter.fit(lay_out(keyed, self.exporter.rules, self.options))

    def replacing(self, stored: Run, exact: Run | None, source: Run) -> Layout | None:
        """The layout with exact rows in place of the log's rows.

        None if there are no exact rows, if the target cannot rewrite a run, or if someone changed
        the run there.
        """
        if exact is None or logged_rows(exact) == logged_rows(stored):
            return None
        if len(exact.logged) > MOST_RANGES:
            return None
        layout = self.out(replace(arranged(exact, self.held.added), replaces=True))
        can_replace = getattr(self.exporter, "can_replace", None)
        if can_replace is None or not can_replace(layout, self.held) or self._is_changed(stored):
            return None
        count = logged_rows(stored) - logged_rows(exact)
        message = "rows that were exported from the log are replaced by the exact ones of the state"
        found = Finding("rows-from-log-replaced", Severity.INFO, source.source, message, count)
        return replace(layout, findings=(*layout.findings, found))

    def _is_changed(self, stored: Run) -> bool:
        """Whether the target's rows are not those that were written."""
        there = stored.history.take(np.arange(self.held.history))
        layout = self.out(replace(stored, stream=there, added=(), evidence=()))
        layout = continued(layout, self.held, self.exporter, self.options)
        expected = expected_points(layout, self.exporter)
        return bool(compare(layout, self.exporter.read_back(self.held), expected))


def _noted(run: Run, source: Run) -> Run:
    """The run, with a finding if the target keeps rows of the log that the source has exactly."""
    count = logged_rows(run) - logged_rows(source)
    if count <= 0:
        return run
    message = (
        "rows were exported from the log before a state held them: the target keeps them as the "
        "log has them, with fewer metrics or rounded"
    )
    found = Finding("rows-kept-from-log", Severity.INFO, source.source, message, count)
    return replace(run, findings=(*run.findings, found))


def logged_rows(run: Run) -> int:
    """How many rows of the history are from a log."""
    return sum(stop - start for start, stop, _ in run.logged)
