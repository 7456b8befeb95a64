"""The tables beside event files, which may be the log of the same trainings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.units import TABLE_SUFFIXES, Unit
from bridges.stream.model import Run


def with_files_beside(runs: Sequence[Run], unit: Unit, options: ReadOptions) -> Iterator[Run]:
    """The runs of a unit with the tables in its directories; a table of another run comes last."""
    found = unit.folders
    has_tables = any(name.endswith(TABLE_SUFFIXES) for each in found for name in each.files)
    if not (has_tables or options.tables):
        yield from runs
        return
    from bridges.sources.tables.beside import with_tables  # not needed for most runs

    yield from with_tables(runs, found, unit.location, options)
