"""Folds a table into the run of the event files of the same training.

Event files have times and 32-bit values; a table may have more digits, fewer of them, or further
columns. The steps are the events': some loggers count one more there. A cell keeps its 64 bits if
it equals its event as a 32-bit value; a cell with fewer digits gives way to the event. With any
other value, the table is a run of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import EarlierValues, Float64, Int64, MetricStream, Run, Series

OFFSETS = (0, 1)  # of the events' steps from those of the table
SINGLE = 2.0**-23  # the distance of 32-bit values, relative to them
EXACT_DIGITS = 9  # of a 32-bit value in any notation
NOT_OF_EVENTS = ("table-end-unknown", "table-steps-are-epochs")
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Cells:
    """The cells of one key with an event at their step (n each): row of the table, the event's
    row and position in the key's column, and the value to keep.
    """

    row: Int64
    event_row: Int64
    position: Int64
    value: Float64
    exact: int
    different: int


@dataclass(frozen=True)
class Fit:
    """How a table fits a run of events: its cells by key, with one offset of steps."""

    offset: int
    cells: dict[str, _Cells]

    @property
    def exact(self) -> int:
        """The number of cells equal to 32 bits."""
        return sum(cells.exact for cells in self.cells.values())

    @property
    def matched(self) -> int:
        """The number of equal cells."""
        return sum(len(cells.row) for cells in self.cells.values()) - self.different

    @property
    def different(self) -> int:
        """The number of cells with another value than their event."""
        return sum(cells.different for cells in self.cells.values())


def fold_all(runs: Sequence[Run], tables: Sequence[Run]) -> Iterator[Run]:
    """The runs of events, each with the tables of the same training, then the other tables."""
    found, left = [*runs], []
    open_runs = [at for at, run in enumerate(found) if run.key is None]  # not exports by bridges
    for table in tables:
        pairs = [(at, each) for at in open_runs for each in (table, _without_prefix(table))]
        fits = [(fit_of(found[at].stream, each.stream), at, each) for at, each in pairs]
        fitting = [(fit.matched, -at, fit, each) for fit, at, each in fits if fit is not None]
        if not fitting:
            left.append(table)
            continue
        _, at, fit, own = max(fitting, key=lambda each: each[:2])
        found[-at] = folded(found[-at], own, fit, table)
    yield from found
    yield from left


def _without_prefix(table: Run) -> Run:
    """The table with the names in a directory of event files: `learn/RMSE` is `RMSE` in `learn`."""
    prefixes = {key.partition("/")[0] for key in table.stream.keys}
    if len(prefixes) != 1 or any("/" not in key for key in table.stream.keys):
        return table
    names = {key: key.partition("/")[2] for key in table.stream.keys}
    return replace(table, stream=table.stream.map_keys(names))


def fit_of(events: MetricStream, table: MetricStream) -> Fit | None:
    """The offset with which all common cells agree; None if they differ, or without any."""
    shared = {part.key for part in events.numbers} & {part.key for part in table.numbers}
    fits = [
        Fit(offset, {key: _cells(events, table, key, offset) for key in sorted(shared)})
        for offset in OFFSETS
    ]
    fits = [fit for fit in fits if fit.matched and not fit.different]
    return max(fits, key=lambda fit: fit.matched, default=None)


def _cells(events: MetricStream, table: MetricStream, key: str, offset: int) -> _Cells:
    """The cells of a key beside their events; of several events at a step, the last that agrees."""
    rows, values = table.column(key)
    event_rows, found = events.column(key)
    order = np.argsort(events.step[event_rows], kind="stable")
    steps = events.step[event_rows][order]
    wanted = table.step[rows] + offset
    low, high = np.searchsorted(steps, wanted), np.searchsorted(steps, wanted, side="right")
    has_event = high > low
    rows, values, low, high = rows[has_event], values[has_event], low[has_event], high[has_event]
    tolerance = _tolerance(values)
    at = order[high - 1]
    is_exact, is_near = _agree(values, found[at], tolerance)
    for cell in np.flatnonzero(~(is_exact | is_near) & (high - low > 1)).tolist():
        others = order[low[cell] : high[cell]]
        exact, near = _agree(values[cell], found[others], tolerance[cell])
        agreeing = np.flatnonzero(exact | near)
        if len(agreeing):
            at[cell] = others[agreeing[-1]]
            is_exact[cell], is_near[cell] = exact[agreeing[-1]], near[agreeing[-1]]
    kept = np.where(is_exact, values, found[at])
    different = int((~(is_exact | is_near)).sum())
    return _Cells(rows, event_rows[at], at, kept, int(is_exact.sum()), different)


def _agree(cells: Float64, events: Float64, tolerance: Float64) -> tuple[Mask, Mask]:
    """Whether cells equal events as 32-bit values, and whether they have the digits of events."""
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.asarray(cells, np.float32)
        is_exact = (single == events.astype(np.float32)) | (np.isnan(single) & np.isnan(events))
        return is_exact, np.abs(cells - events) <= tolerance


def _tolerance(cells: Float64) -> Float64:
    """Half a unit of the last digit of each cell (float64, n), by the most digits in its column."""
    texts = [repr(value).lstrip("-").partition("e") for value in cells.tolist()]
    digits = [len(text.replace(".", "").strip("0")) for text, *_ in texts]
    decimals = [
        len(text.partition(".")[2].rstrip("0")) - int(power or 0) for text, _, power in texts
    ]
    if not texts or max(digits) > EXACT_DIGITS:
        return np.zeros(len(cells))
    size = np.abs(np.where((cells == 0) | ~np.isfinite(cells), 1.0, cells))
    significant = np.floor(np.log10(size)) - max(digits) + 1
    fixed = -float(min(max(decimals), EXACT_DIGITS))
    half = 0.5 * 10.0 ** np.maximum(significant, fixed)
    return np.asarray(half + size * SINGLE)


def folded(events: Run, table: Run, fit: Fit, whole: Run) -> Run:
    """The run of events with the cells of a table, which is `whole` with the names of events."""
    stream, added = _with_cells(events.stream, table.stream, fit)
    near = fit.matched - fit.exact
    message = (
        f"{table.source} is the same training: {fit.exact:,} of its cells equal the events, "
        f"{near:,} have fewer digits, {added:,} are only in the table"
    )
    if fit.offset:
        message += f"; its steps are {fit.offset} less than those of the events, which are kept"
    note = Finding("table-folded", Severity.INFO, table.source, message, fit.matched + added)
    findings = [each for each in table.findings if each.code not in NOT_OF_EVENTS]
    return replace(
        events,
        stream=stream,
        params={**table.params, **events.params},
        param_files={**table.param_files, **events.param_files},
        status=table.status if events.status == "unknown" else events.status,
        settings=table.settings,
        provenance=(*events.provenance, *table.provenance),
        findings=(*events.findings, note, *findings),
        folded=(*events.folded, whole),
        earlier_values={**events.earlier_values, **_earlier_values(events.stream, fit)},
    )


def _earlier_values(events: MetricStream, fit: Fit) -> dict[str, EarlierValues]:
    """The values of the events that have more digits in the table, by key."""
    found = {}
    for key, cells in fit.cells.items():
        _, values = events.column(key)
        before = values[cells.position]
        changed = (before != cells.value) & ~(np.isnan(before) & np.isnan(cells.value))
        if changed.any():
            step = events.step[cells.event_row[changed]]
            found[key] = EarlierValues(step, cells.value[changed], before[changed])
    return found


def _with_cells(events: MetricStream, table: MetricStream, fit: Fit) -> tuple[MetricStream, int]:
    """The stream with the values and further cells of the table, and the number of these."""
    row_of = np.full(len(table), -1, np.int64)
    for cells in fit.cells.values():
        row_of[cells.row] = cells.event_row
    rows = np.flatnonzero(row_of < 0)
    stream, place = _with_rows(_with_values(events, fit), table.step[rows] + fit.offset)
    is_known = row_of >= 0
    row_of[is_known] = place[row_of[is_known]]
    row_of[rows] = place[len(events) :]
    added, count = [], 0
    for part in table.series:
        known = fit.cells.get(part.key) if part.is_number else None
        is_new = np.ones(len(part.rows), bool) if known is None else ~np.isin(part.rows, known.row)
        if is_new.any():
            chosen = part.only(is_new)
            added.append(Series(part.key, row_of[chosen.rows], chosen.values))
            count += len(chosen.rows)
    return _without_empty_rows(_with_series(stream, added)), count


def _with_values(events: MetricStream, fit: Fit) -> MetricStream:
    """The stream with the values to keep."""
    series = []
    for part in events.series:
        cells = fit.cells.get(part.key) if part.is_number else None
        if cells is not None:
            values = part.values.astype(np.float64)
            values[np.searchsorted(part.rows, cells.event_row)] = cells.value
            part = replace(part, values=values)
        series.append(part)
    return replace(events, series=tuple(series))


def _with_rows(stream: MetricStream, steps: Int64) -> tuple[MetricStream, Int64]:
    """The stream with a further row for each of these steps, and the new place of each row.

    A new row follows the last row with no higher step, and has its time.
    """
    count = len(stream)
    place = np.arange(count + len(steps))
    if not len(steps) or not count:
        return stream, place
    by_step = np.argsort(stream.step, kind="stable")
    before = np.searchsorted(stream.step[by_step], steps, side="right") - 1
    anchor = by_step[np.maximum(before, 0)]
    anchor = np.where(before < 0, 0, anchor)
    key = np.concatenate([np.arange(count), anchor])
    is_after = np.concatenate([np.zeros(count), np.where(before < 0, -1, 1)])
    order = np.lexsort((np.concatenate([np.zeros(count), steps]), is_after, key))
    place[order] = np.arange(len(order))
    time = None
    if stream.time is not None:
        time = np.concatenate([stream.time, stream.time[anchor]])
    kind = np.concatenate([stream.kind, stream.kind[anchor]])
    joined = MetricStream(np.concatenate([stream.step, steps]), kind, stream.series, time)
    return joined.take(order), place


def _with_series(stream: MetricStream, added: Sequence[Series]) -> MetricStream:
    """The stream with further values; those of a known key and type join its series."""
    series = {(part.key, part.values.dtype.kind): part for part in stream.series}
    for part in added:
        name = (part.key, part.values.dtype.kind)
        series[name] = _joined(stream, series[name], part) if name in series else _sorted(part)
    return replace(stream, series=tuple(series.values()))


def _joined(stream: MetricStream, one: Series, two: Series) -> Series:
    rows = np.concatenate([one.rows, two.rows])
    order = np.argsort(rows, kind="stable")
    time = None
    if one.time is not None:
        time = np.concatenate([one.time, stream.times(two)])[order]
    return Series(one.key, rows[order], np.concatenate([one.values, two.values])[order], time)


def _sorted(part: Series) -> Series:
    return part.only(np.argsort(part.rows, kind="stable")) if len(part.rows) else part


def _without_empty_rows(stream: MetricStream) -> MetricStream:
    """The stream without rows that have no values."""
    has_value = np.zeros(len(stream), bool)
    for part in stream.series:
        has_value[part.rows] = True
    return stream if has_value.all() else stream.take(np.flatnonzero(has_value))
