"""Match a state with a run that was exported from a tool's log before the state was saved.

The target stores such a run under the key of the log's first row, with the rows of the log. If the
log still exists, the run is looked up under both keys and continues from the stored rows. If it was
deleted, its key is computed from the state, and its rows are read back from the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bridges.exporters.base import ExistingRun, Replaces
from bridges.exporters.state import State
from bridges.pipeline.compare import compare, expected_points
from bridges.pipeline.continuing import continued
from bridges.pipeline.lost_log import with_stored_rows
from bridges.pipeline.match import Known, Match, allows, known_to
from bridges.pipeline.target import Target
from bridges.stream.added import arranged
from bridges.stream.finding import Finding, Severity
from bridges.stream.identity import logs_alone, prefix_digest
from bridges.stream.logged import as_stored
from bridges.stream.model import Run

_View = tuple[Run, Run | None]
MAX_RANGES = 50  # of rows from a log, between rows of a state: every target can store so many


def match_logged(
    match: Match, seen: Sequence[ExistingRun], target: Target, *, is_written: bool
) -> Match:
    """The match with a run that was exported from a log, if there is one.

    `seen` are the existing runs under the keys of the run, of its logs and of logs of its rows.
    If the run `is_written` next and the target can rewrite it, exact rows replace the log's rows.
    """
    run = match.run
    if match.known:
        return match
    candidates = sorted(_candidates(match, seen, target), key=lambda one: one.order)
    by_rows = ((known, _view_of(run, known.state)) for known in candidates)
    fitting = next(((known, view) for known, view in by_rows if view), None)
    if fitting is None:
        fitting = _by_stored_rows(match, candidates, target)
    if fitting is None:
        return match
    known, (stored, exact) = fitting
    found = _replacing(stored, exact, known, run, target) if is_written else None
    return found or _match(_noted(stored, run), known, target)


def _candidates(match: Match, seen: Sequence[ExistingRun], target: Target) -> list[Known]:
    """The existing runs; one under the key of a log is compared with the rows of that log, which
    may be more than the state has.
    """
    by_key = {match.identity.key: match.run}
    for log in match.run.logs:
        for alone in logs_alone(match.run, log):
            by_key.setdefault(target.identity(alone).key, alone)
    return [
        known
        for existing in seen
        for known in known_to(by_key.get(existing.key, match.run), [existing], target.exporter)
    ]


def _view_of(run: Run, state: State) -> _View | None:
    """The run with the rows that an existing run stores, and the run with exact rows instead.

    None if the existing run is another run.
    """
    views = _views(run, state)
    return next((view for view in views if _is_one(view[0], state)), None)


def _by_stored_rows(
    match: Match, candidates: Sequence[Known], target: Target
) -> tuple[Known, _View] | None:
    """The existing run with rows of a log that is lost, as they are read back.

    Of several, the one of the same output directory: logs may differ in their speed alone.
    """
    run = match.run
    if logged_rows(run) == len(run.history):  # a log alone: its rows would be the same
        return None
    found = []
    for known in candidates:
        is_from_log = bool(known.state.logged) or known.existing.key != match.identity.key
        if known.complete and is_from_log and allows(known.state, run):
            view = with_stored_rows(run, known, target)
            found += [(known, view)] if view else []
    if len(found) > 1:
        output = run.settings.output
        found = [one for one in found if one[0].state.settings.output == output]
    return found[0] if found else None


def _match(run: Run, known: Known, target: Target) -> Match:
    return Match(run, target.identity(run, known.existing.key), known)


def _views(run: Run, state: State) -> Iterator[_View]:
    """The run itself, then for each log the run with the rows of that log, and with exact ones."""
    if state.history <= len(run.history):
        yield run, None
    logged = state.logged or ((0, state.history, 0),)
    for log in run.logs:
        stored = as_stored(run, log, logged, state.history)
        if stored is not None:
            yield stored, as_stored(run, log, logged, state.history, exact=True)


def _is_one(stored: Run, state: State) -> bool:
    """Whether an existing run has the same rows, and settings that do not contradict."""
    equal_rows = state.history == len(stored.history)
    return (
        state.settings.is_same_run(stored.settings, equal_rows=equal_rows)
        and prefix_digest(stored.history, state.history) == state.digest
    )


def _replacing(
    stored: Run, exact: Run | None, known: Known, source: Run, target: Target
) -> Match | None:
    """The match in which exact rows replace the log's rows.

    None if there are no exact rows, if the target cannot rewrite the run, or if a user changed it.
    """
    if exact is None or logged_rows(exact) == logged_rows(stored):
        return None
    if len(exact.logged) > MAX_RANGES:
        return None
    run, exporter = arranged(exact, known.state.added), target.exporter
    can_replace = isinstance(exporter, Replaces) and exporter.can_replace(
        known.existing, len(run.stream)
    )
    if not can_replace or _is_changed(stored, known, target):
        return None
    count = logged_rows(stored) - logged_rows(exact)
    message = "rows that were exported from the log are replaced by the exact ones of the state"
    found = Finding("rows-from-log-replaced", Severity.INFO, source.source, message, count)
    return replace(_match(run, known, target), replaces=True, findings=(found,))


def _is_changed(stored: Run, known: Known, target: Target) -> bool:
    """Whether the target holds other rows than were written."""
    there = stored.history.take(np.arange(known.state.history))
    run = replace(stored, stream=there, added=(), evidence=())
    layout = continued(_match(run, known, target), target)
    expected = expected_points(layout, target.exporter)
    return bool(compare(layout, target.exporter.read_back(known.existing), expected))


def _noted(run: Run, source: Run) -> Run:
    """The run, with a finding if the target keeps rounded rows that the source has exactly."""
    count = logged_rows(run) - logged_rows(source)
    if count <= 0:
        return run
    message = (
        "rows were exported from the log before a state had them: the target keeps the values of "
        "the log, which are rounded and of fewer metrics"
    )
    found = Finding("rows-kept-from-log", Severity.INFO, source.source, message, count)
    return replace(run, findings=(*run.findings, found))


def logged_rows(run: Run) -> int:
    """The number of history rows that come from a log."""
    return sum(stop - start for start, stop, _ in run.logged)
