"""Runs that were exported from a tool's log before a state was saved.

The target stores such a run under the key of the log's first row, with the log's rows. If a log
lies beside a state, the run is looked up under both keys and continues from the stored rows. If the
log is gone, its key is made from the state, and its rows are read back from the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bridges.exporters.base import ExistingRun, KnowsKeys, Replaces
from bridges.exporters.state import State
from bridges.pipeline.compare import compare, expected_points
from bridges.pipeline.continuing import continued
from bridges.pipeline.layouts import Placer
from bridges.pipeline.log_in_target import with_stored_rows
from bridges.pipeline.match_existing import Known, Match, allows, known_to
from bridges.sources.tuning_logs.tool_rows import keys_in_logs
from bridges.stream.added import arranged
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import first_rows_of, prefix_digest
from bridges.stream.logged import as_stored
from bridges.stream.model import Run

MOST_RANGES = 50  # of rows from a log, between rows of a state: what every target can store


def resolve_logged(
    match: Match, seen: Sequence[ExistingRun], placer: Placer, *, is_written: bool
) -> Match:
    """The match with a run that was exported from a log beside the state, if there is one.

    `seen` are the runs under the keys of the run and of its logs, and `found_by_tool_keys`.

    Where the run `is_written` next and the target can be rewritten, exact rows replace those of the
    log that the target has.
    """
    run = match.run
    if match.known:
        return match
    for known in sorted(_candidates(match, seen, placer), key=lambda one: one.order):
        if view := _view_of(match, known, placer):
            stored, exact = view
            found = _replacing(stored, exact, known, run, placer) if is_written else None
            return found or _match(_noted(stored, run), known, placer)
    return match


def found_by_tool_keys(match: Match, placer: Placer) -> Sequence[ExistingRun]:
    """The runs of the target under the keys that the run would have in the logs of tools.

    None if the existing run is known, if it is not the Trainer's, or if the target has no such key.
    """
    run, identity, exporter = match.run, match.identity, placer.exporter
    if match.known or run.identity or run.key_style != "trainer":
        return ()
    keys = sorted({*keys_in_logs(run, identity.options)} - {*identity.keys})
    if not keys or (isinstance(exporter, KnowsKeys) and not exporter.may_hold(keys)):
        return ()
    return exporter.find(replace(identity, key=keys[0], aliases=tuple(keys[1:])))


def _candidates(match: Match, seen: Sequence[ExistingRun], placer: Placer) -> list[Known]:
    """The existing runs as the run sees them: those under the key of a log as the log alone does,
    which may be longer.
    """
    by_key = {match.identity.key: match.run}
    for log in match.run.logs:
        alone = first_rows_of(match.run, log.stream)
        by_key.setdefault(placer.identity(alone).key, alone)
    return [
        known
        for existing in seen
        for known in known_to(by_key.get(existing.key, match.run), [existing], placer.exporter)
    ]


def _view_of(match: Match, known: Known, placer: Placer) -> tuple[Run, Run | None] | None:
    """The run with the rows that an existing run has, and with exact ones in their place; None if
    that is another run.
    """
    run, state = match.run, known.state
    for stored, exact in _views(run, state):
        if _is_one(stored, state):
            return stored, exact
    is_from_log = bool(state.logged) or known.existing.key != match.identity.key
    if known.complete and is_from_log and allows(state, run):
        return with_stored_rows(run, known, placer)
    return None


def _match(run: Run, known: Known, placer: Placer) -> Match:
    return Match(run, placer.identity(run, known.existing.key), known)


def _views(run: Run, state: State) -> Iterator[tuple[Run, Run | None]]:
    """The run as it is, and with the rows of its logs that the target may have; each of these also
    with exact rows in their place.
    """
    if state.history <= len(run.history):
        yield run, None
    logged = state.logged or ((0, state.history, 0),)
    for log in run.logs:
        stored = as_stored(run, log, logged, state.history)
        if stored is not None:
            yield stored, as_stored(run, log, logged, state.history, exact=True)


def _is_one(stored: Run, state: State) -> bool:
    """Whether an existing run has the rows of this one, and settings that allow it."""
    equal_rows = state.history == len(stored.history)
    return (
        state.settings.is_same_run(stored.settings, equal_rows=equal_rows)
        and prefix_digest(stored.history, state.history) == state.digest
    )


def _replacing(
    stored: Run, exact: Run | None, known: Known, source: Run, placer: Placer
) -> Match | None:
    """The match with exact rows in place of the log's rows.

    None if there are no exact rows, if the target cannot rewrite a run, or if someone changed the
    run there.
    """
    if exact is None or logged_rows(exact) == logged_rows(stored):
        return None
    if len(exact.logged) > MOST_RANGES:
        return None
    run, exporter = arranged(exact, known.state.added), placer.exporter
    can_replace = isinstance(exporter, Replaces) and exporter.can_replace(
        known.existing, len(run.stream)
    )
    if not can_replace or _is_changed(stored, known, placer):
        return None
    count = logged_rows(stored) - logged_rows(exact)
    message = "rows that were exported from the log are replaced by the exact ones of the state"
    found = Finding("rows-from-log-replaced", Severity.INFO, source.source, message, count)
    return replace(_match(run, known, placer), replaces=True, findings=(found,))


def _is_changed(stored: Run, known: Known, placer: Placer) -> bool:
    """Whether the target's rows are not those that were written."""
    there = stored.history.take(np.arange(known.state.history))
    run = replace(stored, stream=there, added=(), evidence=())
    layout = continued(_match(run, known, placer), placer)
    expected = expected_points(layout, placer.exporter)
    return bool(compare(layout, placer.exporter.read_back(known.existing), expected))


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
