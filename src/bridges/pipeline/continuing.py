"""Appending: the layout of a run, with the times that the target stores for the earlier rows.

Written rows never change their times. Some clocks can be computed from the log again; others came
from files that may have changed, so their times are read back from the target.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ExportError, VerifyError
from bridges.exporters.base import Exporter, Points, Recorded, as_stored
from bridges.pipeline.layouts import Placer
from bridges.pipeline.match_existing import Known, Match
from bridges.pipeline.saved_since import replacing, saved_since
from bridges.sources.times.clocks import IN_ROWS, kind_named
from bridges.stream.added import arranged
from bridges.stream.clock import RECORDED, SECOND, HeldTimes, in_ticks, times_digest
from bridges.stream.layout import EARLIEST_RULES, Layout, tick_of
from bridges.stream.model import EvidenceKind, Knows, MetricStream, Series
from bridges.stream.pace import SYNTHETIC
from bridges.stream.redact import redact_key
from bridges.stream.tagging import named


def continued(match: Match, placer: Placer) -> Layout:
    """The layout of a match: a new run, or one that continues an existing run with its rows, its
    times and its earlier writes.

    If the target holds more rows than the source, the layout stays that of the source. Raises
    ExportError if rows would be stored twice and the target cannot rewrite the run.
    """
    known = match.known
    if known is None or match.is_longer_there or match.replaces:
        layout = placer.place(match.run, match.identity)
        if not match.replaces:
            return layout
        return replace(layout, replaces=True, findings=(*layout.findings, *match.findings))
    kept = _kept(match, known, placer)
    saved = saved_since(match.run, known.state)
    if not saved:
        return kept
    others = [row for row in known.state.added if row not in saved]
    run = arranged(match.run, others) if others else match.run
    whole = placer.place(run, match.identity)
    return replacing(whole, kept, known.existing, placer.exporter, len(saved))


def _kept(match: Match, known: Known, placer: Placer) -> Layout:
    """The layout in which the target keeps all that it has."""
    state = known.state
    run = arranged(match.run, state.added)
    _require_no_new_secret_key(run.stream, known, placer.exporter)

    def placed(**times: Any) -> Layout:
        return placer.place(
            run, match.identity, append_rows=state.append_rows, rules=state.rules, **times
        )

    layout = placed()
    if state.clock in IN_ROWS:
        return layout if state.clock == layout.clock.name else placed(clock=state.clock)
    if state.clock == layout.clock.name and layout.times_digest(state.rows) == state.times:
        return layout
    if state.clock == layout.clock.name == RECORDED.name:
        return layout  # such times are never moved: where they differ, comparing tells it
    times = _recorded_times(layout, known, placer.exporter)
    return layout if times is None else placed(held=times)


def _require_no_new_secret_key(stream: MetricStream, known: Known, exporter: Exporter) -> None:
    """The first rules do not mask keys: rows that would write a secret as one are refused.

    Raises ExportError.
    """
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


def _recorded_times(layout: Layout, known: Known, exporter: Exporter) -> HeldTimes | None:
    """The times of the rows that the target holds; None where they are not those that were written,
    which comparing will tell.
    """
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
    return HeldTimes(rows, time[rows], *_clock_of(state.clock))


def _clock_of(name: str) -> tuple[EvidenceKind, str]:
    """The kind of evidence that a stored run's times are from, and the origin of its clock."""
    source, _, origin = name.partition(" from ")
    kind = kind_named(source)
    return kind, origin or (source if kind.knows is Knows.INSTANTS else SYNTHETIC.name)


def _take_times(
    time: NDArray[Any], series: Series, recorded: Recorded, exporter: Exporter, tick: int
) -> None:
    """Put the times of a tag's points at their rows, if these are the points of that series."""
    there = recorded.points.get(series.key)
    if there is None:
        return
    in_order = np.argsort(there.time, kind="stable")  # times rise from row to row
    values = as_stored(exporter, series.values)
    count = min(len(values), len(in_order))
    if _equal(there, in_order[:count], values[:count]):
        time[series.rows[:count]] = in_ticks(there.time[in_order[:count]] * (SECOND // tick), tick)


def _equal(there: Points, chosen: NDArray[Any], values: NDArray[Any]) -> bool:
    return bool(np.array_equal(there.value[chosen], values, equal_nan=True))
