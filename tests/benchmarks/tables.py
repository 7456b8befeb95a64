"""Benchmarks of Parquet and CSV: 1,000,000 points written and read back."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pyarrow import parquet

import bridges
from bridges.exporters.factory import make_exporters
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.stream.model import Run
from tests.benchmarks.timing import ROWS, history, least_cpu, line, millis


def exported(run: Run, to: str, out: Path, *, wide: bool = False) -> None:
    """A new export, read back."""
    shutil.rmtree(out, ignore_errors=True)
    (exporter,) = make_exporters([to], {"out": str(out), "wide": wide})
    report = export_run(run, exporter, ExportOptions())
    assert report.verified, report.findings


def tables(folder: Path) -> None:
    """CPU of an export, to pyarrow alone with the finished table of points."""
    (run,) = bridges.read(history(folder / "state.json", ROWS))
    out = folder / "out"
    exported(run, "parquet", out)
    (path,) = (out / "metrics").glob("*.parquet")
    ready = parquet.read_table(path)

    def alone() -> None:
        parquet.write_table(ready, folder / "alone.parquet", compression="zstd")
        parquet.read_table(folder / "alone.parquet")

    wide = partial(exported, run, "parquet", out, wide=True)
    actions: tuple[Callable[[], None], ...] = (partial(exported, run, "parquet", out), wide, alone)
    long, both, floor = least_cpu(*actions, repeats=5)
    note = f"{millis(long)}, at most 2,000 ms"
    line("Parquet, 1,000,000 points read back: CPU, to pyarrow alone", long / floor, "≤ 3", note)
    line("the same with a wide table", both / floor, "≤ 3", millis(both))
    exported(run, "csv", folder / "csv")
    (path,) = (folder / "csv" / "metrics").glob("*.csv")

    def plain() -> None:
        with path.open(newline="") as file, open(folder / "copy.csv", "w", newline="") as copy:
            csv.writer(copy).writerows(csv.reader(file))

    made, copied = least_cpu(partial(exported, run, "csv", folder / "csv"), plain, repeats=2)
    line("CSV, 1,000,000 points: CPU, to a copy by `csv`", made / copied, "≤ 5", millis(made))


SECTIONS = {"tables": tables}
