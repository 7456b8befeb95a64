"""Going on: the layout of a run of which the target holds a part, with the times it has there.

What was written keeps its times for ever. The log alone gives some of them again; others came from
what lay beside it, which may have gone or grown, so that then the target itself is asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import VerifyError
from bridges.exporters.base import Exporter, Held, Points, Recorded
from bridges.saved_since import replacing, saved_since
from bridges.stream.added import arranged
from bridges.stream.clock import IN_LOG, SECOND, HeldTimes, in_ticks, times_digest
from bridges.stream.layout import Layout, LayoutOptions, lay_out, tick_of
from bridges.stream.model import Series


def continued(
    layout: Layout, held: Held | None, exporter: Exporter, options: LayoutOptions
) -> Layout:
    """The layout that continues a stored run: its rows, its times, its earlier writes.

    If the target holds more rows than the source, the layout stays that of the source. Raises
    ExportError if rows would be stored twice and the target cannot rewrite the run.
    """
    if held is None or held.history > layout.history or layout.run.replaces:
        return layout
    kept = _kept(layout, held, exporter, options)
    saved = saved_since(layout, held)
    if not saved:
        return kept
    others = [row for row in held.added if row not in saved]
    if others:
        run = arranged(layout.run, others)
        layout = exporter.fit(lay_out(run, exporter.rules, options))
    return replacing(layout, kept, held, exporter, len(saved))


def _kept(layout: Layout, held: Held, exporter: Exporter, options: LayoutOptions) -> Layout:
    """The layout in which the target keeps all that it has."""

    def again(**known: Any) -> Layout:
        run = arranged(layout.run, held.added)
        made = lay_out(run, exporter.rules, options, cuts=held.cuts, rules=held.rules, **known)
        return exporter.fit(made)

    is_alike = held.rules == layout.rules and not held.added and options.duplicates != "last"
    if held.clock in IN_LOG:
        if is_alike and held.clock == layout.clock.name:
            return layout
        return again(clock=held.clock)
    if not is_alike:
        layout = again()
    if held.clock == layout.clock.name and layout.times_digest(held.rows) == held.times:
        return layout
    times = _held_times(layout, held, exporter)
    return layout if times is None else again(held=times)


def by_rules_of(held: Held, layout: Layout, exporter: Exporter, options: LayoutOptions) -> Layout:
    """The layout by the rules that a stored run was written by."""
    if held.rules == layout.rules:
        return layout
    return exporter.fit(lay_out(layout.run, exporter.rules, options, rules=held.rules))


def _held_times(layout: Layout, held: Held, exporter: Exporter) -> HeldTimes | None:
    """The times of the rows that the target holds; None where they are not those that were written,
    which comparing will tell.
    """
    try:
        recorded = exporter.read_back(held)
    except VerifyError:
        return None
    time, tick = np.full(len(layout.stream), -1, np.int64), tick_of(layout.rules)
    for series in layout.stream.numbers:
        _take_times(time, series.slice(0, layout.position(held.rows)), recorded, exporter, tick)
    rows = np.flatnonzero(time >= 0)
    if held.whole and times_digest(time, rows, tick) != held.times:
        return None
    return HeldTimes(rows, time[rows], held.clock)


def _take_times(
    time: NDArray[Any], series: Series, recorded: Recorded, exporter: Exporter, tick: int
) -> None:
    """Put the times of a tag's points at their rows, if these are the points of that series."""
    there = recorded.points.get(series.key)
    if there is None:
        return
    in_order = np.argsort(there.time, kind="stable")  # times rise from row to row
    values = exporter.stored(series.values)
    count = min(len(values), len(in_order))
    if _equal(there, in_order[:count], values[:count]):
        time[series.rows[:count]] = in_ticks(there.time[in_order[:count]] * (SECOND // tick), tick)


def _equal(there: Points, chosen: NDArray[Any], values: NDArray[Any]) -> bool:
    return bool(np.array_equal(there.value[chosen], values, equal_nan=True))
