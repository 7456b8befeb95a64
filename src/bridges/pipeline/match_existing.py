"""Find the existing run that an export continues, by its rows and settings, never by its name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from bridges.exporters.base import ExistingRun, KnowsKeys
from bridges.log import is_read, log
from bridges.pipeline.compare import holds_rows
from bridges.pipeline.earlier_settings import has_other_params
from bridges.pipeline.match import Known, Match, allows, known_to
from bridges.pipeline.target import Target
from bridges.stream.identity import Identity, prefix_digest
from bridges.stream.layout import Stored
from bridges.stream.model import Run


def match_existing(
    run: Run, target: Target, *, is_written: bool
) -> tuple[Sequence[ExistingRun], Match]:
    """The existing runs that may be this run, and the match with one of them.

    `is_written` says that the run is written next, so that exact rows may replace those of a log.
    """
    seen, match = _match(run, target, is_written=is_written)
    if is_read("match"):
        _log(seen, match, target)
    return seen, match


def _match(run: Run, target: Target, *, is_written: bool) -> tuple[Sequence[ExistingRun], Match]:
    identity = target.identity(run)
    seen = target.exporter.find(identity)
    if not run.append_only:
        return _match_unordered(run, identity, seen, target)
    keys = (identity.key, identity.earlier, identity.onward)
    own = known_to(run, (one for one in seen if one.key in keys), target.exporter)
    others = [one.existing.location for one in own if has_other_params(run, one, target.exporter)]
    own = [known for known in own if known.existing.location not in others]
    match = (
        _by_rows(run, identity, own)
        or _by_rows(run, identity, _with_earlier_results(run, own, target))
        or _longer(run, identity, own, target)
    )
    if match and match.known:
        identity = replace(identity, key=match.known.existing.key)
        return seen, replace(match, identity=identity)
    new = Match(run, identity)
    seen = [*seen, *_found_by_tool_keys(run, identity, target)]
    fitting = [existing for existing in seen if existing.location not in others]
    if not fitting:
        return seen, new
    from bridges.pipeline.match_logged import match_logged

    return seen, match_logged(new, fitting, target, is_written=is_written)


def _match_unordered(
    run: Run, identity: Identity, seen: Sequence[ExistingRun], target: Target
) -> tuple[Sequence[ExistingRun], Match]:
    """The match of a run whose rows have no order of their own, or of a table in it."""
    if not seen and not run.folded:
        return seen, Match(run, identity)
    from bridges.pipeline.match_unordered import match_unordered

    if not run.folded:
        return seen, match_unordered(run, identity, seen, target)
    from bridges.pipeline.match_folded import left_out, parts_of

    parts = parts_of(run, target)
    own = [existing for existing in seen if existing.key not in parts]
    match = match_unordered(run, identity, own, target)
    if match.known or len(own) == len(seen):
        return seen, match
    for part in parts.values():
        stored, found = _match(part, target, is_written=False)
        if found.known:
            note = left_out(run, part, found.known.existing)
            noted = replace(found.run, findings=(*found.run.findings, note))
            return stored, replace(found, run=noted)
    return seen, match


def _found_by_tool_keys(run: Run, identity: Identity, target: Target) -> Sequence[ExistingRun]:
    """The existing runs under the keys that a new run has in the logs of tuning tools.

    Empty for runs that are not the Trainer's.
    """
    exporter = target.exporter
    if run.identity or run.key_style != "trainer":
        return ()
    from bridges.sources.tuning_logs.run_keys import keys_in_logs  # imports pydantic's core

    keys = sorted({*keys_in_logs(run, identity.options)} - {*identity.keys})
    if not keys or (isinstance(exporter, KnowsKeys) and not exporter.may_hold(keys)):
        return ()
    return exporter.find(replace(identity, key=keys[0], aliases=tuple(keys[1:])))


def _with_earlier_results(run: Run, known: list[Known], target: Target) -> Iterator[Known]:
    """The existing runs of the first version, with their results counted as added rows."""
    if not known:
        return
    from bridges.pipeline.earlier_results import with_earlier_results

    for one in known:
        state = with_earlier_results(run, one.state, one.existing, target) if one.complete else None
        if state:
            yield replace(one, state=state)


def _by_rows(run: Run, identity: Identity, known: Iterable[Known]) -> Match | None:
    """The match with a run that has this history or its beginning.

    Runs with contradicting settings come last, then the longest history counts, and equal settings
    come before unknown ones.
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


def _longer(run: Run, identity: Identity, known: list[Known], target: Target) -> Match | None:
    """The match with a run that has more of the history: all points of this run are compared."""
    longer = [
        one for one in known if one.state.history > len(run.history) and allows(one.state, run)
    ]
    bare = run
    if longer and run.added:  # their place depends on where the history ends
        bare = replace(run, stream=run.history, added=(), evidence=())
    for one in sorted(longer, key=lambda one: one.order):
        layout = target.lay_out(bare, identity, Stored(rules=one.state.rules))
        if holds_rows(layout, target.exporter.read_back(one.existing), target.exporter):
            return Match(run, identity, one)
    return None


def _begins(run: Run, identity: Identity, known: Known) -> bool:
    """Whether the history of an existing run is that of the run, or its beginning."""
    rows, history = known.state.history, len(run.history)
    digest = identity.digest if rows == history else prefix_digest(run.history, rows)
    return rows <= history and digest == known.state.digest


def _log(seen: Sequence[ExistingRun], match: Match, target: Target) -> None:
    """Log the decision, and each existing run under the keys of the run."""
    known, name = match.known, target.exporter.name
    chosen = known.existing.location if known else ""
    outcome = f"continues {chosen}" if known else "is new"
    log("match", "%s: %s has the key %s and %s", name, match.run.name, match.identity.key, outcome)
    for existing in seen:
        if existing.location != chosen:
            why = "deleted" if existing.deleted else "has other rows or settings"
            rows = existing.state.rows
            log("match", "%s: not %s with %d rows: %s", name, existing.location, rows, why)
