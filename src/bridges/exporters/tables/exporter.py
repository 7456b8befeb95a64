"""Parquet and CSV: runs as tables below a directory.

`metrics/` holds the numbers, `texts/` the other values, `params/` the settings, `runs/` a row for
each run with its state, and `wide/`, if asked for, a column for each metric. The row of a run says
that it is incomplete until all its files are in place, so the next export repairs it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from bridges import (
    BaseExporter,
    ConflictError,
    ExistingRun,
    ExportError,
    Identity,
    Layout,
    Recorded,
    State,
    VerifyError,
    whole_state,
)
from bridges.exporters.atomic_files import locked, put_files, system_errors
from bridges.exporters.base import Labels
from bridges.exporters.description import metadata
from bridges.exporters.receipts import ReceiptFile, RunReceipt
from bridges.exporters.tables import content, csv_files, parquet_files
from bridges.exporters.tables.files import (
    KEY_CHARS,
    METRICS,
    OTHERS,
    PARAMS,
    RUNS,
    SOURCES,
    UNREADABLE,
    WIDE,
    Format,
    TableFiles,
    show_command,
)
from bridges.exporters.tables.options import TableOptions
from bridges.exporters.tables.table import Table, Texts, is_equal, texts, types_of

LOCK, RECEIPTS = ".bridges.lock", ".bridges.marks.jsonl"  # below the directory
FORMATS: dict[str, Format] = {"parquet": parquet_files, "csv": csv_files}


class TableExporter(BaseExporter):
    """Writes runs as files of the format `name` below the directory `out`."""

    place = ""
    view_label = "Read"
    Options = TableOptions

    def __init__(self, options: TableOptions | None = None) -> None:
        options = options or TableOptions()
        self.out = options.out or self.name
        self._is_wide = options.wide
        self._files = TableFiles(self.out, FORMATS[self.name])
        self._lock = os.path.join(self.out, LOCK)
        self._receipts = ReceiptFile(os.path.join(self.out, RECEIPTS), self.out)

    @property
    def own_directory(self) -> str:
        """The directory: readers take each of its folders as one table of one format."""
        return self.out

    def as_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """The same numbers: integers and booleans keep their type."""
        return values

    def find(self, identity: Identity) -> list[ExistingRun]:
        """The runs with one of the keys, from their rows in the table of runs."""
        marks = {f"-{key[:KEY_CHARS]}" for key in identity.keys}
        with system_errors(self.out, "read"):
            likely = [run for run in self._files.runs() if any(mark in run for mark in marks)]
            return [run for run in map(self._existing, likely) if run.key in identity.keys]

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Write all files of a run. A run with new rows is written again from its first row."""
        with system_errors(self.out):
            os.makedirs(self.out, exist_ok=True)
            with locked(self._lock):
                self._refuse_changes(layout, seen, existing)
                run = existing.id if existing else self._files.free_run(layout)
                state = whole_state(layout, existing.state if existing else None)
                with self._files.without_leftovers(run):
                    self._publish(layout, run, state)
                return self._existing(run)

    def can_replace(self, existing: ExistingRun, rows: int) -> bool:
        """True: each write replaces the files of the run."""
        return True

    def read_back(self, existing: ExistingRun) -> Recorded:
        """All points and other values of the run. Its wide table must hold the same points."""
        files, run, others = self._files, existing.id, None
        with files.readable(OTHERS, run):
            if files.has(OTHERS, run):
                others = files.load(OTHERS, run)
        with files.readable(METRICS, run):
            points = files.load(METRICS, run)
            found = content.recorded(points, others)
        if files.has(WIDE, run):
            self._check_wide(points, run)
        return found

    def stored_params(self, existing: ExistingRun) -> Mapping[str, object]:
        """The params of the run."""
        files, run = self._files, existing.id
        with files.readable(PARAMS, run):
            return content.params_in(files.load(PARAMS, run)) if files.has(PARAMS, run) else {}

    def relabel(self, layout: Layout, existing: ExistingRun, labels: Labels) -> ExistingRun:
        """Set name, group and tags in the row of the run; its files keep their names."""
        about, run = metadata(layout), existing.id
        given = {"name": labels.name, "group": labels.group}
        changed = {name: str(about[name]) for name, label in given.items() if label}
        with system_errors(self.out), locked(self._lock):
            self._refuse_change(existing)
            row = self._files.load(RUNS, run)
            if labels.tags:
                tags = json.loads(texts(row, "tags").tolist()[0])
                changed["tags"] = json.dumps({**tags, **labels.tags})
            if any(texts(row, name).tolist() != [text] for name, text in changed.items()):
                self._put_row(run, {**row, **{k: Texts.of([text]) for k, text in changed.items()}})
            return self._existing(run)

    def attach(self, existing: ExistingRun, files: Mapping[str, bytes]) -> None:
        """Store the files beside the tables, in a folder of the run."""
        with system_errors(self.out):
            put_files(os.path.join(self.out, SOURCES, existing.id), files)

    def save_receipts(self, runs: Sequence[RunReceipt]) -> None:
        """Save receipts in a file of the directory; a write to a run makes its receipt invalid."""
        suffix = self._files.format.SUFFIX
        names = (os.path.basename(run.location).removesuffix(suffix) for run in runs)
        self._receipts.put(zip(runs, map(self._files.paths, names), strict=True))

    def receipts(self) -> Iterator[RunReceipt]:
        """The valid receipts, without reading tables."""
        return self._receipts.read()

    def view_command(self, locations: Sequence[str], longest: int) -> str | None:
        """The command of DuckDB that shows the points of all runs."""
        return show_command(self.out, self._files.format.SUFFIX)

    def _existing(self, run: str) -> ExistingRun:
        """A run by its row. Raises ExportError if the row is damaged."""
        files, needed = self._files, (METRICS, *([WIDE] if self._is_wide else []))
        try:
            row, location = files.load(RUNS, run), files.path(METRICS, run)
            missing = tuple(table for table in needed if not files.has(table, run))
            return content.existing_run(row, location, missing)
        except UNREADABLE:
            raise ExportError(
                f"{files.path(RUNS, run)}: the row of a run is damaged, so its stored rows are "
                "unknown. Delete this file and export the run again."
            ) from None

    def _refuse_changes(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> None:
        """Raises ConflictError if another export changed a run of the key since `find`."""
        if any(run not in seen for run in self.find(layout.identity)):
            raise ConflictError
        if existing:
            self._refuse_change(existing)
        suffixes = {made.SUFFIX for made in FORMATS.values()} - {self._files.format.SUFFIX}
        if any(name.endswith(tuple(suffixes)) for name in self._files.names()):
            raise ExportError(
                f"{self.out}: holds {', '.join(suffixes)} files, so its folders would be of two "
                f"formats. Choose another --out for the target {self.name}."
            )

    def _refuse_change(self, existing: ExistingRun) -> None:
        """Raises ConflictError if the run has changed since `find`."""
        if not self._files.has(RUNS, existing.id) or self._existing(existing.id) != existing:
            raise ConflictError

    def _publish(self, layout: Layout, run: str, state: State) -> None:
        """Replace all files of a run; its row is incomplete until the last one is in place."""
        for name, table in self._tables(layout, run).items():
            self._files.write(name, run, table)
        self._put_row(run, content.run_row(layout, run, state, complete=False))
        for name in (METRICS, OTHERS, PARAMS, WIDE):
            self._files.publish(name, run)
        self._put_row(run, content.run_row(layout, run, state, complete=True))

    def _tables(self, layout: Layout, run: str) -> dict[str, Table]:
        """The tables of a run by name. An existing wide table stays up to date."""
        tables = {METRICS: content.metrics(layout, run)}
        if self._is_wide or self._files.has(WIDE, run):
            tables[WIDE] = content.wide(tables[METRICS])
        if any(not part.is_number for part in layout.stream.series) or layout.texts:
            tables[OTHERS] = content.other_values(layout, run)
        if layout.params:
            tables[PARAMS] = content.params(layout, run)
        return tables

    def _put_row(self, run: str, row: Table) -> None:
        """Replace the row of a run in the table of runs."""
        self._files.write(RUNS, run, row)
        self._files.publish(RUNS, run)

    def _check_wide(self, points: Table, run: str) -> None:
        """Raises VerifyError if the wide table holds other points."""
        path, expected = self._files.path(WIDE, run), content.wide(points)
        with self._files.readable(WIDE, run):
            there = self._files.format.read(path, types_of(expected))
        if not is_equal(there, expected):
            raise VerifyError(f"{path}: the wide table holds other points than {METRICS}/")


class ParquetExporter(TableExporter):
    """Writes runs as Parquet files."""

    name = "parquet"


class CsvExporter(TableExporter):
    """Writes runs as CSV files."""

    name = "csv"
