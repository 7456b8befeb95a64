"""A tiny real plug-in: runs as plain text lines, and CSV files as runs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bridges import ExistingRun, Layout, MemoryExporter, MetricStream, ReadOptions, Run
from bridges.huggingface.row_kinds import row_kinds
from bridges.stream.columns import series_from_rows


class PlainExporter(MemoryExporter):
    """Keeps runs in memory and also writes them to a text file."""

    name = "plain"

    def __init__(self, path: str = "plain.txt") -> None:
        super().__init__()
        self.path = Path(path)

    def write(
        self, layout: Layout, seen: Sequence[ExistingRun], existing: ExistingRun | None
    ) -> ExistingRun:
        """Keep the run and write its rows."""
        with self.path.open("a") as file:
            file.writelines(f"{row}\n" for row in layout.stream)
        return super().write(layout, seen, existing)


class CsvSource:
    """Reads a CSV file with a column `step`."""

    name = "csv"

    def claims(self, location: str) -> bool:
        """CSV files only."""
        return location.endswith(".csv")

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run of that file."""
        with open(location, newline="") as file:
            rows = [{key: float(text) for key, text in row.items()} for row in csv.DictReader(file)]
        step = np.array([row.pop("step") for row in rows], np.int64)
        series, _ = series_from_rows(rows)
        stream = MetricStream(step, row_kinds(len(rows), series), series)
        yield Run(name=Path(location).stem, stream=stream, source=location)
