"""Tables of 35 repositories: every cell equals what pandas reads, and oddities are found.

The files are third-party data: read where they lie, beside the repository, and never copied here.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from bridges.errors import SourceError
from bridges.sources.tables.formats import built_in
from tests.support import SHARED
from tests.unit.sources.tables.tables import codes, one, runs

TABLES = SHARED / "corpus_trackers" / "tables"
pytestmark = pytest.mark.skipif(
    not TABLES.is_dir(), reason=f"the corpus of real tables is not at {TABLES}"
)
FILES = sorted(path for path in TABLES.rglob("*") if path.suffix in (".csv", ".tsv"))
FILES = [path for path in FILES if path.parent != TABLES]
NO_VALUES = ("logs_test_2e-5/progress.csv", "train/step.tsv")  # empty; only steps
TORN = "Theling__OptionGAN/logs/progress.csv"


def frame_of(path: Path) -> Any:
    """The table as pandas reads it, blank cells apart from NaN, names and texts stripped."""
    import io

    import pandas

    data = path.read_bytes().replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n")
    separator = "\t" if path.suffix == ".tsv" else ","
    options: dict[str, Any] = {"sep": separator, "keep_default_na": False, "na_values": []}
    frame = pandas.read_csv(io.BytesIO(data), dtype=str, **options)
    frame.columns = [name.strip() for name in frame.columns]
    return frame.map(str.strip)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TABLES)))
def test_every_cell_is_what_pandas_reads(path: Path) -> None:
    if str(path).endswith(NO_VALUES):
        with pytest.raises(SourceError, match=r"an empty file|a table without values"):
            runs(path)
        return
    if str(path).endswith(TORN):
        with pytest.raises(SourceError, match="line 3: found 3 cells; expected 30"):
            runs(path)
        assert len(one(path, salvage=True).stream) == 8
        return
    frame, found = frame_of(path), runs(path)
    cells, steps = expected_cells(frame, path)
    read = [point for run in found for point in read_cells(run)]
    assert sorted(read) == sorted(cells)
    assert [step for run in found for step in run.stream.step.tolist()] == steps


def expected_cells(frame: Any, path: Path) -> tuple[list[tuple[str, int, str]], list[int]]:
    """Each cell with a value as (column, step, value), and the step of each row with values."""
    import numpy
    import pandas

    chosen = {name: each for name, each in built_in().items() if each.takes(str(path))}
    formats = [each for each in chosen.values() if not each.lacks(frame.columns)]
    step = next((n for each in formats for n in each.step if n in frame.columns), None)
    times = {name for each in formats if each.elapsed for name in each.elapsed.columns}
    times |= {each.timestamp.column for each in formats if each.timestamp}
    used = {step, *times} if formats[0].step else times
    of_row = range(len(frame)) if step is None else frame[step].astype(float).astype(int)
    rows = [*map(int, of_row)]
    cells, filled = [], numpy.zeros(len(frame), bool)
    for name in frame.columns:
        if name in used:
            continue
        texts = frame[name]
        has_value = ~texts.isin(["", "NA"])
        filled |= has_value.to_numpy()
        values = pandas.to_numeric(texts.where(has_value, ""), errors="coerce")
        exact = [float(text) if text else 0.0 for text in texts.where(has_value, "")]
        assert numpy.array_equal(values[has_value], numpy.array(exact)[has_value], equal_nan=True)
        key = keyed(path, name)
        cells += [(key, rows[at], repr(exact[at])) for at in numpy.flatnonzero(has_value).tolist()]
    return cells, [step for step, is_filled in zip(rows, filled, strict=True) if is_filled]


def keyed(path: Path, column: str) -> str:
    """The name of a metric in the run: dvclive's by its file, CatBoost's with its part."""
    if "dvclive" in path.parts:
        return path.stem
    return f"{path.stem.split('_')[0]}/{column}" if path.stem.endswith("_error") else column


def read_cells(run: Any) -> list[tuple[str, int, str]]:
    """Each value as (key, step, value)."""
    return [
        (part.key, int(run.stream.step[row]), repr(float(value)))
        for part in run.stream.series
        for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True)
    ]


def test_the_numbers_of_runs() -> None:
    found = runs(TABLES)
    assert len(found) == 70
    trainings = [len(run.stream) for run in found if "AkshatSharma5" in run.source]
    assert trainings == [5, 4, 10, 5]
    assert {run.key_style for run in found} == {"tags"}
    assert not any("beside-unreadable" in codes(run) for run in found)


def test_points_equal_the_index() -> None:
    with (TABLES / "index.tsv").open(encoding="utf-8") as file:
        index = {row["file"]: int(row["points"]) for row in csv.DictReader(file, delimiter="\t")}
    repositories = ("0Xero7", "0729max", "Khanhnn00", "TobiasLudwig02", "CherryCQ0", "Cooper")
    for name, points in index.items():
        if name.startswith(repositories) and points:
            assert sum(run.stream.points for run in runs(TABLES / name)) == points, name


def test_the_layouts_of_ultralytics_have_the_same_keys() -> None:
    paths = [path for path in FILES if path.name == "results.csv"]
    by_version = {
        name: {*one(path).stream.keys}
        for path in paths
        for name in ("Abonia1", "A00474210", "Abdelrahman")
        if name in str(path)
    }
    assert len(by_version) == 3
    assert len({frozenset(keys) for keys in by_version.values()}) == 1
