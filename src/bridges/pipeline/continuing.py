"""Continue an existing run: lay out the run with the times that the target already stores.

Written rows keep their times. Some clocks can be computed again from the rows; others came from
files that may have changed, so their times are read back from the target.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import Exporter, Points, Recorded, as_stored
from bridges.pipeline.match import Known, Match
from bridges.pipeline.saved_rows import replacing, saved_since
from bridges.pipeline.target import Target
from bridges.sources.times.clocks import IN_ROWS, kind_named
from bridges.stream.added import arranged
from bridges.stream.clock import RECORDED, SECOND, StoredTimes, in_ticks, times_digest
from bridges.stream.layout import EARLIEST_RULES, Layout, Stored, tick_of
from bridges.stream.model import EvidenceKind, Knows, MetricStream, Series, Values
from bridges.stream.pace import SYNTHETIC
from bridges.stream.redact import redact_key
from bridges.stream.tagging import named


def continued(match: Match, target: Target) -> Layout:
    """The layout of a new run, or of an existing run with its stored rows and times.

    If the target holds more rows than the source, the layout has the rows of the source only.
    Raises ExportError if rows would be stored twice and the target cannot rewrite the run;
    SourceError for a clock that the run does not have.
    """
    known = match.known
    if known is None or match.is_longer_there or match.replaces:
        layout = target.lay_out(match.run, match.identity)
        if not (match.replaces or match.findings):
            return layout
        findings = (*layout.findings, *match.findings)
        return replace(layout, replaces=match.replaces, findings=findings)
    kept = _kept(match, known, target)
    saved = saved_since(match.run, known.state)
    if not saved:
        return kept
    others = [row for row in known.state.added if row not in saved]
    run = arranged(match.run, others) if others else match.run
    whole = target.lay_out(run, match.identity)
    return replacing(whole, kept, known.existing, target.exporter, len(saved))


def _kept(match: Match, known: Known, target: Target) -> Layout:
    """The layout that keeps all stored rows and times."""
    state = known.state
    run = arranged(match.run, state.added)
    _require_no_new_secret_key(run.stream, known, target.exporter)

    stored = Stored(append_rows=state.append_rows, rules=state.rules)
    layout = target.lay_out(run, match.identity, stored)
    has_same_clock = state.clock == layout.clock.name
    if state.clock in IN_ROWS:
        if not has_same_clock:
            layout = target.lay_out(run, match.identity, replace(stored, clock=state.clock))
        return layout
    if has_same_clock and layout.times_digest(state.rows) == state.times:
        return layout
    if has_same_clock and state.clock == RECORDED.name:
        return layout  # such times are never moved: the comparison shows where they differ
    times = _recorded_times(layout, known, target.exporter)
    if times is None:
        return layout
    return target.lay_out(run, match.identity, replace(stored, times=times))


def _require_no_new_secret_key(stream: MetricStream, known: Known, exporter: Exporter) -> None:
    """Raises ExportError if new rows have a secret in a key that the run's rules do not mask."""
    if known.state.rules > EARLIEST_RULES:
        return
    rows = known.state.rows
    fresh = {part.key for part in stream.series if not len(part.slice(0, rows).rows)}
    secret = sorted(redact_key(key) for key in fresh if redact_key(key) != key)
    if secret:
        raise ExportError(
            f"The new rows have a secret in the {named(secret)}, and {exporter.name} holds the run "
            f"{known.existing.name!r} as an earlier release wrote it, which masked no keys. Delete "
            "the run there, and export it again."
        )


def _recorded_times(layout: Layout, known: Known, exporter: Exporter) -> StoredTimes | None:
    """The times of the stored rows; None if a user changed them, which the comparison reports."""
    try:
        recorded = exporter.read_back(known.existing)
    except VerifyError:
        return None
    state = known.state
    time, tick = np.full(len(layout.stream), -1, np.int64), tick_of(layout.rules)
    for series in layout.stream.numbers:
        _take_times(time, series.slice(0, layout.position(state.rows)), recorded, exporter, tick)
    rows = np.flatnonzero(time >= 0)
    if known.complete and times_digest(time[rows], tick) != state.times:
        return None
    return StoredTimes(rows, time[rows], *_clock_of(state.clock))


def _clock_of(name: str) -> tuple[EvidenceKind, str]:
    """The kind of evidence and the origin of a stored clock name."""
    source, _, origin = name.partition(" from ")
    kind = kind_named(source)
    return kind, origin or (source if kind.knows is Knows.INSTANTS else SYNTHETIC.name)


def _take_times(
    time: Values, series: Series, recorded: Recorded, exporter: Exporter, tick: int
) -> None:
    """Write the times of a tag's points into `time`, if their values are those of the series."""
    there = recorded.points.get(series.key)
    if there is None:
        return
    in_order = np.argsort(there.time, kind="stable")  # times rise from row to row
    values = as_stored(exporter, series.values)
    count = min(len(values), len(in_order))
    if _equal(there, in_order[:count], values[:count]):
        time[series.rows[:count]] = in_ticks(there.time[in_order[:count]] * (SECOND // tick), tick)


def _equal(there: Points, chosen: Values, values: Values) -> bool:
    return bool(np.array_equal(there.value[chosen], values, equal_nan=True))
