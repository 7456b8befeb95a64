"""From the tables of a unit to runs: the trainings in a table, with names, params and times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase, translate
from itertools import combinations
from posixpath import splitext

import numpy as np

from bridges.sources.fetch import MissingSourceError
from bridges.sources.options import ReadOptions
from bridges.sources.tables.columns import Roles
from bridges.sources.tables.damage import name_lines
from bridges.sources.tables.joined import join
from bridges.sources.tables.params import Params, read_params
from bridges.sources.tables.paths import exists, head_of, name_in, within
from bridges.sources.tables.recognise import Place, Recognised, recognise
from bridges.sources.tables.table import Table, read_table
from bridges.sources.tables.text import TableText, empty
from bridges.sources.tables.times import evidence_of, near, with_times, without_mtime
from bridges.sources.tables.trainings import trainings_of
from bridges.sources.tables.units import Unit, key_of
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, Int64, Log, MetricStream, Run, Series
from bridges.stream.redact import redact_text

EPOCHS = ("epoch", "epochs")
MAX_FIRST_VALUES = 4  # of a joined run, whose subsets are tried as its first row


def runs_of(
    unit: Unit, name: str, options: ReadOptions, text: TableText | None = None
) -> Iterator[Run]:
    """The runs of a unit, called `name` and `name/2` …. Raises SourceError.

    `text`: the text of its only table, if it is loaded.
    """
    params = read_params(unit.folder, unit.format.params, redact_home=options.redact_home)
    if unit.format.join and text is None:
        yield _joined(unit, name, params, options)
    else:
        path, known = unit.files[0]
        table = _prefixed(unit, path, read_table(path, known, options, text))
        yield from _trainings(unit, table, name, params, options)


def _trainings(
    unit: Unit, table: Table, name: str, params: Params, options: ReadOptions
) -> Iterator[Run]:
    """The runs of one table, each followed by its superseded rows if these are kept."""
    step, is_one = table.stream.step, options.division != "training"
    found = trainings_of(step, table.elapsed, is_one=is_one)
    for number, training in enumerate(found, 1):
        findings = table.findings if number == 1 else []
        if len(found) > 1 and number == 1:
            findings = [*findings, _several(table, len(found))]
        is_kept = options.superseded == "keep"
        if len(training.superseded) and not is_kept:
            findings = [*findings, _superseded(table, training.superseded)]
        suffix = "" if number == 1 else f"/{number}"
        part = _part(unit, table, training.rows, name + suffix, params, findings)
        yield part if number == len(found) else without_mtime(part)
        if len(training.superseded) and is_kept:
            of_it = f"{name}{suffix}/superseded"
            yield without_mtime(_part(unit, table, training.superseded, of_it, params, []))


def _part(
    unit: Unit,
    table: Table,
    rows: Int64,
    name: str,
    params: Params,
    findings: Sequence[Finding],
) -> Run:
    """The run of some rows of a table."""
    part = table if len(rows) == len(table.lines) else table.take(rows)
    stream = with_times(part.stream, part.time)
    notes = [*_notes(table.roles, stream, params, unit), *_restarts(part)]
    settings = near(unit.folder, unit.format.params)
    known = stream.time is not None
    return replace(
        _run(unit, name, stream, params, [*findings, *notes]),
        source=table.text.location + ("" if not rows[0] else f"#{int(table.lines[rows[0]])}"),
        evidence=() if known else evidence_of(table.text, part.time, part.elapsed, settings),
        provenance=(table.text.provenance,),
        epoch_key=table.roles.epoch,
    )


def _joined(unit: Unit, name: str, params: Params, options: ReadOptions) -> Run:
    """The run of all tables of a directory."""
    findings: list[Finding] = []
    read = [_with_rows(unit, path, known, options, findings) for path, known in unit.files]
    tables = [table for table in read if table is not None]
    if not tables:
        raise empty(unit.location, found="tables without values")
    stream, time = join(tables)
    findings += [finding for table in tables for finding in table.findings]
    findings += _notes(tables[0].roles, stream, params, unit)
    run = _run(unit, name, stream, params, findings)
    evidence: tuple[Evidence, ...] = ()
    if stream.time is None:
        timed = evidence_of(tables[0].text, time, None, ())
        evidence = (*timed, *_clock_beside(unit, stream, options))
    return replace(
        run,
        evidence=evidence,
        provenance=tuple(table.text.provenance for table in tables),
        epoch_key=tables[0].roles.epoch,
        append_only=False,
        logs=_partial_starts(stream),
    )


def _with_rows(
    unit: Unit, path: str, known: Recognised, options: ReadOptions, findings: list[Finding]
) -> Table | None:
    """A table of a unit; None if its first row is yet to come, which is a finding."""
    try:
        return _prefixed(unit, path, read_table(path, known, options))
    except MissingSourceError as error:
        findings.append(without_rows(error))
        return None


def _partial_starts(stream: MetricStream) -> tuple[Log, ...]:
    """The first row as it was before all tables had it: an earlier export has one of their keys."""
    first = stream.take(np.zeros(1, np.int64))
    if len(first.series) > MAX_FIRST_VALUES:
        return ()
    return tuple(
        Log(replace(first, series=some), np.full(1, -1))
        for count in range(1, len(first.series))
        for some in combinations(first.series, count)
    )


def _prefixed(unit: Unit, path: str, table: Table) -> Table:
    """The table with the keys of the joined run."""
    series = tuple(part.under(_key(unit, path, part)) for part in table.stream.series)
    return replace(table, stream=replace(table.stream, series=series))


def _key(unit: Unit, path: str, part: Series) -> str:
    if unit.format.key == "path":
        return key_of(path, unit.root)
    if not unit.format.prefix:
        return part.key
    name = splitext(name_in(path).removesuffix(".gz"))[0]
    prefix = unit.format.prefix.replace("{stem}", name)
    return f"{prefix.replace('{*}', _star(unit, path))}{part.key}"


def _star(unit: Unit, path: str) -> str:
    """The text of `*` in the name of a file."""
    file = name_in(path).removesuffix(".gz")
    for pattern in unit.format.files:
        match = re.fullmatch(translate(pattern).replace(".*", "(.*)", 1), file)
        if match and match.groups():
            return str(match[1])
    return file


def _clock_beside(unit: Unit, stream: MetricStream, options: ReadOptions) -> tuple[Evidence, ...]:
    """The elapsed times of the rows, from the table of times beside the tables."""
    column = unit.format.elapsed
    path = within(unit.folder, column.file) if column and column.file else ""
    if column is None or not path or not exists(path):
        return ()
    own = replace(column, file="")
    format = replace(unit.format, elapsed=own, surely=None)
    known = recognise(Place(path), head_of(path), {"clock": format}, "clock")
    if known is None:
        return ()
    table = read_table(path, known, options)
    if table.elapsed is None:
        return ()
    rows = np.searchsorted(table.stream.step, stream.step)
    rows = np.minimum(rows, len(table.elapsed) - 1)
    elapsed = np.where(table.stream.step[rows] == stream.step, table.elapsed[rows], np.nan)
    settings = near(unit.folder, unit.format.params)
    return evidence_of(table.text, None, elapsed, settings)


def _run(
    unit: Unit, name: str, stream: MetricStream, params: Params, findings: Sequence[Finding]
) -> Run:
    """A run of the unit, with its params."""
    return Run(
        name=redact_text(name),
        group=_group(unit),
        stream=stream,
        source=unit.location,
        params=params.values,
        param_files=params.files,
        status=_status(unit, stream, params),
        findings=(_format(unit), *findings, *params.findings),
        key_style="tags",
        settings=replace(params.settings, output=name),
    )


def _group(unit: Unit) -> str | None:
    """The name of the directory around that of the run, if its format groups such runs."""
    name = name_in(unit.folder)
    if not any(fnmatchcase(name, pattern) for pattern in unit.format.group_by_parent):
        return None
    return redact_text(name_in(within(unit.folder, ".."))) or None


def _format(unit: Unit) -> Finding:
    known = unit.files[0][1]
    about = f" ({known.format.about})" if known.format.about else ""
    why = f": {known.why}" if known.why else ""
    message = f"read as the format {known.name}{about}{why}"
    return Finding("table-format", Severity.INFO, unit.location, message, len(unit.files))


def _status(unit: Unit, stream: MetricStream, params: Params) -> str:
    """`finished` if the last step is the planned one; a table has no other sign of an end."""
    planned = params.values.get(unit.format.last_step)
    if not isinstance(planned, int) or not len(stream):
        return "unknown"
    first, last = int(stream.step.min()), int(stream.step.max())
    return "finished" if last + (first == 0) >= planned else "unknown"


def _notes(roles: Roles, stream: MetricStream, params: Params, unit: Unit) -> list[Finding]:
    """Notes on the meaning of the steps, and on the end of the run."""
    found = []
    if roles.step in EPOCHS:
        message = f"the column {roles.step!r} is the step, as in the table: steps are epochs"
        found.append(Finding("table-steps-are-epochs", Severity.INFO, "all rows", message))
    if _status(unit, stream, params) == "unknown":
        message = "a table has no sign of the end of its training: the status is unknown"
        found.append(Finding("table-end-unknown", Severity.INFO, unit.location, message))
    return found


def _restarts(table: Table) -> list[Finding]:
    """A note if the time since the start falls: each process of a training begins with 0."""
    if table.elapsed is None:
        return []
    elapsed = table.elapsed[~np.isnan(table.elapsed)]
    count = int((np.diff(elapsed) < 0).sum())
    if not count:
        return []
    message = "the elapsed time begins again: the time until the training was resumed is unknown"
    return [Finding("table-time-restarts", Severity.INFO, table.text.location, message, count)]


def without_rows(error: MissingSourceError) -> Finding:
    """The note about a table without rows."""
    return Finding("table-empty", Severity.INFO, error.source, f"{error.found}: left out")


def _several(table: Table, count: int) -> Finding:
    message = f"the step falls back to its beginning: the table has {count} trainings, each a run"
    return Finding("table-several-trainings", Severity.INFO, table.text.location, message, count)


def _superseded(table: Table, rows: Int64) -> Finding:
    steps = table.stream.step[rows]
    message = (
        f"steps {int(steps.min())} to {int(steps.max())} were logged again after a resume: "
        "the rows logged last are exported"
    )
    where = name_lines(table.lines[rows])
    return Finding("table-rows-superseded", Severity.INFO, where, message, len(rows))
