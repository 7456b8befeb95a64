"""A tiny real plug-in: runs as plain text lines, and tables as runs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bridges import (
    Evidence,
    EvidenceKind,
    ExistingRun,
    FilePart,
    Knows,
    Layout,
    MemoryExporter,
    MetricStream,
    ReadOptions,
    RowKind,
    Run,
    SourceError,
)
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


STOPWATCH = EvidenceKind("stopwatch", Knows.DURATIONS, 15, "a stopwatch")


class TsvSource:
    """Reads a table with a column `step`, its columns divided by tabs.

    A column `seconds` has the time since the start.
    """

    name = "tsv"
    clocks = (STOPWATCH,)
    divider = "\t"

    def claims(self, location: str) -> bool:
        """Files of that name only."""
        return location.endswith(f".{self.name}")

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The run of that file."""
        try:
            rows = self._rows(location)
        except UnicodeDecodeError as error:
            raise SourceError(
                location, found=str(error), expected="a table of text", remedy="Export it again."
            ) from error
        step = np.array([row.pop("step") for row in rows], np.int64)
        seconds = np.array([row.pop("seconds", 0.0) for row in rows])
        series, _ = series_from_rows(rows)
        stream = MetricStream(step, np.full(len(rows), RowKind.CUSTOM, np.uint8), series)
        evidence = Evidence(STOPWATCH, np.arange(len(rows)), seconds * 1e6, location)
        yield Run(
            name=Path(location).stem,
            stream=stream,
            source=location,
            evidence=(evidence,) if seconds.any() else (),
        )

    def _rows(self, location: str) -> list[dict[str, float]]:
        with open(location, newline="") as file:
            table = csv.DictReader(file, delimiter=self.divider)
            return [{key: float(text) for key, text in row.items()} for row in table]


class CsvSource(TsvSource):
    """Reads a table divided by commas, and says which file a run is made of."""

    name = "csv"
    divider = ","

    def split(self, location: str) -> list[FilePart]:
        """The file."""
        return [FilePart(location)]

    def read_part(self, part: FilePart, options: ReadOptions) -> Iterator[Run]:
        """The run of the file."""
        return self.read(part.location, options)
