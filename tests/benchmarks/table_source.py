"""Benchmarks of reading tables of a million cells, beside pandas."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bridges.sources.options import ReadOptions
from bridges.sources.tables.source import TablesSource
from tests.benchmarks.timing import in_turn, least_cpu, line, millis

CELLS = 1_000_000
COLUMNS = 10
KINDS: dict[str, Callable[[float, int], str]] = {
    "17 digits": lambda value, at: repr(value),
    "6 digits": lambda value, at: f"{value:.6g}",
    "half of them blank": lambda value, at: repr(value) if at % 2 else "",
    "2,000 columns": lambda value, at: repr(value),
}
OURS = "import bridges, sys; [run] = bridges.read(sys.argv[1]); print(run.stream.points)"
PANDAS = "import pandas, sys; print(pandas.read_csv(sys.argv[1]).size)"


def make(path: Path, kind: str) -> Path:
    """A table as Lightning writes it."""
    cell = KINDS[kind]
    columns = 2_000 if kind == "2,000 columns" else COLUMNS
    shape = (CELLS // columns, columns - 2)
    values = np.random.default_rng(1).standard_normal(shape).tolist()
    with open(path, "w") as file:
        file.write(",".join(["epoch", "step", *(f"m{n}" for n in range(columns - 2))]) + "\n")
        for row, numbers in enumerate(values):
            cells = (cell(value, row + at) for at, value in enumerate(numbers))
            file.write(",".join([str(row // 1000), str(row), *cells]) + "\n")
    return path


def read(path: Path) -> int:
    """Read the table as a run; the number of points."""
    (run,) = TablesSource().read(str(path), ReadOptions())
    return run.stream.points


def tables(folder: Path) -> None:
    """CPU time of reading, and wall time of whole processes."""
    import pandas

    for kind in KINDS:
        path = make(folder / "metrics.csv", kind)
        ours, others = least_cpu(partial(read, path), partial(pandas.read_csv, path))
        note = f"pandas {pandas.__version__}, {millis(ours)}, {CELLS / ours / 1e6:.1f} M cells/s"
        line(f"table, {kind}: faster than pandas.read_csv", others / ours, "≥ 1", note)
        commands = [[sys.executable, "-c", code, str(path)] for code in (OURS, PANDAS)]
        (own, peak), (stock, other) = in_turn(*(partial(list, each) for each in commands))
        note = f"{millis(own)}; peak {peak:.0f} MiB, pandas {other:.0f} MiB"
        line(f"table, {kind}: whole process, faster than pandas", stock / own, "≥ 1", note)


SECTIONS = {"table-source": tables}
