"""The tables in directories with event files, folded into the runs of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bridges.errors import SourceError
from bridges.sources.fetch import MissingSourceError
from bridges.sources.folders import Folder
from bridges.sources.options import ReadOptions
from bridges.sources.tables.fold import fold_all
from bridges.sources.tables.own_formats import formats_of
from bridges.sources.tables.run_names import name_of
from bridges.sources.tables.runs import runs_of
from bridges.sources.tables.units import Unit, tables_in
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run


def with_tables(
    runs: Sequence[Run], folders: Sequence[Folder], location: str, options: ReadOptions
) -> Iterator[Run]:
    """The runs of event files, each with the tables of the same training, then the other tables.

    An unreadable table is a finding of the first run.
    """
    tables: list[Run] = []
    findings: list[Finding] = []
    formats, _ = formats_of(options)
    for folder in folders:
        found = tables_in(folder, formats)
        findings += [_unreadable(error) for error in found.errors]
        for unit in found.units:
            tables += _runs(unit, location, options, findings)
    for number, run in enumerate(fold_all(runs, tables)):
        yield replace(run, findings=(*run.findings, *findings)) if not number else run


def _runs(unit: Unit, location: str, options: ReadOptions, findings: list[Finding]) -> list[Run]:
    """The runs of a unit; none if it is unreadable, which is a finding."""
    try:
        return list(runs_of(unit, name_of(unit, location), options))
    except MissingSourceError:
        return []
    except SourceError as error:
        findings.append(_unreadable(error))
        return []


def _unreadable(error: SourceError) -> Finding:
    message = f"a table that cannot be read: {error}"
    return Finding("table-unreadable", Severity.LOSS, error.source, message)
