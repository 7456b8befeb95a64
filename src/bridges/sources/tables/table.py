"""Reads one table: its rows as a stream, with the number of each row's line and its times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bridges.sources.options import ReadOptions
from bridges.sources.tables.cells import Cells, rows_of
from bridges.sources.tables.columns import Roles, roles_of
from bridges.sources.tables.damage import Damage, name_lines
from bridges.sources.tables.json_rows import JsonRows
from bridges.sources.tables.recognise import Recognised
from bridges.sources.tables.steps import steps_of
from bridges.sources.tables.text import NEWLINE, TableText, body_start, empty, load
from bridges.sources.tables.timestamps import elapsed_of, times_of
from bridges.stream.align import fill_steps
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Float64, Int64, MetricStream, RowKind, Series


@dataclass
class Table:
    """The rows of a table.

    lines: the number of each row's line (int64, n)
    time: microseconds since 1970 UTC of each row (int64, n; NO_TIME: none), if it has such a column
    elapsed: microseconds since the start (float64, n; NaN: none), if it has such a column
    """

    text: TableText
    stream: MetricStream
    lines: Int64
    roles: Roles
    findings: list[Finding]
    time: Int64 | None = None
    elapsed: Float64 | None = None

    def take(self, rows: Int64) -> Table:
        """The table with these rows only."""
        return replace(
            self,
            stream=self.stream.take(rows),
            lines=self.lines[rows],
            time=None if self.time is None else self.time[rows],
            elapsed=None if self.elapsed is None else self.elapsed[rows],
        )


def read_table(
    location: str, known: Recognised, options: ReadOptions, text: TableText | None = None
) -> Table:
    """The table of a file; `text`: its text, if it is loaded. Raises SourceError."""
    text = text or load(location, options)
    last = text.data.count(NEWLINE) if text.is_cut else 0
    damage = Damage(location, known.columns, options.salvage, last)
    reader = _json if not known.separator else _separated
    columns, lines, series, findings = reader(text, known, damage)
    roles = roles_of(location, columns, known.format, options)
    table = _with_roles(text, columns, lines, series, roles, damage)
    table.findings = [*text.findings, *findings, *table.findings, *damage.findings()]
    table.stream = _metrics(table.stream, known, roles)
    if known.format.blank == "nan":
        table.stream = with_nans(table.stream)
    has_values = _with_values(table.stream)
    if not has_values.any():
        raise empty(location, found="a table without values")
    text.data = b""  # no longer needed
    return table if has_values.all() else table.take(np.flatnonzero(has_values))


Read = tuple[Sequence[str], Int64, tuple[Series, ...], list[Finding]]


def _separated(text: TableText, known: Recognised, damage: Damage) -> Read:
    """The columns of separated text: names, line numbers, values, findings."""
    start = body_start(text.data)
    if start == len(text.data):
        raise empty(text.location)
    line = text.data.count(NEWLINE, 0, start) + 1
    end = text.data.index(NEWLINE, start) + 1
    names = next(iter(rows_of(text.data[start:end], known.separator)))[1]
    header = [name.strip() for name in names]
    damage.header = header
    columns, findings = _unique(header if known.format.strip else names)
    repeated: list[int] = []

    def on_odd(number: int, cells: list[str]) -> None:
        if [cell.strip() for cell in cells] == header:
            repeated.append(number)
        else:
            damage.add(number, cells)

    cells = Cells(columns, known.separator, known.format.missing, on_odd, header=header)
    cells.add(text.data, line + 1, end)
    if repeated:
        message = "the line with the names of the columns is repeated: left out"
        where = name_lines(repeated)
        findings.append(
            Finding("table-header-repeated", Severity.INFO, where, message, len(repeated))
        )
    series, found = cells.columns.series()
    return [name for name in columns if name is not None], cells.lines, series, [*findings, *found]


def _json(text: TableText, known: Recognised, damage: Damage) -> Read:
    """The columns of JSON lines: names, line numbers, values, findings."""
    rows = JsonRows(text, damage)
    series, found = rows.columns.series()
    names = [*dict.fromkeys(part.key for part in series)]
    return names, rows.lines, series, found


def _unique(header: Sequence[str]) -> tuple[list[str | None], list[Finding]]:
    """The key of each column; None for one without a name. Equal names get a number."""
    counts: Counter[str] = Counter()
    names: list[str | None] = []
    twice, unnamed = [], []
    for at, name in enumerate(header):
        counts[name] += 1
        if not name:
            unnamed.append(at)
            names.append(None)
            continue
        if counts[name] > 1:
            twice.append(name)
            name = f"{name}.{counts[name] - 1}"
        names.append(name)
    findings = []
    if twice:
        message = "columns of equal names: from the second one on, a number is added"
        where = ", ".join(map(repr, dict.fromkeys(twice)))
        findings.append(
            Finding("table-columns-alike", Severity.WARNING, where, message, len(twice))
        )
    if unnamed:
        message = "a column without a name, as the index of a data frame: left out"
        where = f"column {unnamed[0] + 1}"
        findings.append(
            Finding("table-column-unnamed", Severity.INFO, where, message, len(unnamed))
        )
    return names, findings


def _with_roles(
    text: TableText,
    columns: Sequence[str],
    lines: Int64,
    series: tuple[Series, ...],
    roles: Roles,
    damage: Damage,
) -> Table:
    """The table with its steps and times."""
    count = len(lines)
    own = [part for part in series if part.key == roles.step]
    step, known, is_good = steps_of(own, count, lines, damage, roles.step)
    findings: list[Finding] = []
    if roles.step is None:
        step = np.arange(count, dtype=np.int64)
        message = "no column of steps is known: the step is the number of the row, from 0"
        where = "all rows"
        findings.append(Finding("table-without-steps", Severity.WARNING, where, message, count))
    elif not known.all():
        step, findings = fill_steps(step, known)
    kind = np.full(count, RowKind.CUSTOM, np.uint8)
    table = Table(text, MetricStream(step, kind, series), lines, roles, findings)
    table.time, odd = times_of(series, roles.timestamp, count)
    table.elapsed = elapsed_of(series, roles.elapsed, count)
    table.findings += odd
    return table if is_good.all() else table.take(np.flatnonzero(is_good))


def _metrics(stream: MetricStream, known: Recognised, roles: Roles) -> MetricStream:
    """The stream of the metrics."""
    others = roles.columns - {*known.format.keep}
    kept = (part for part in stream.series if part.key not in others)
    series = tuple(part for part in kept if known.format.is_metric(part.key))
    return replace(stream, series=series)


def with_nans(stream: MetricStream) -> MetricStream:
    """The stream with NaN in the rows without a value, for each key with numbers."""
    count, series = len(stream), [*stream.series]
    for key in dict.fromkeys(part.key for part in stream.numbers):
        own = [part for part in stream.series if part.key == key]
        absent = np.setdiff1d(np.arange(count), np.concatenate([part.rows for part in own]))
        floats = [part for part in own if part.values.dtype == np.float64]
        rows = np.concatenate([absent, *(part.rows for part in floats)])
        values = [np.full(len(absent), np.nan), *(part.values for part in floats)]
        order = np.argsort(rows, kind="stable")
        made = Series(key, rows[order], np.concatenate(values)[order])
        series = [part for part in series if not any(part is each for each in floats)]
        series += [made] if len(rows) else []
    return replace(stream, series=tuple(series))


def _with_values(stream: MetricStream) -> NDArray[np.bool_]:
    """Whether each row has a value (bool, n)."""
    has_value = np.zeros(len(stream), bool)
    for part in stream.series:
        has_value[part.rows] = True
    return has_value
