"""Runs of every kind of source in Parquet, CSV and Trackio, read by DuckDB, `csv` and SQL alone."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sqlite3
import tarfile
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

import bridges
from bridges.stream.clock import clocked
from bridges.stream.model import Run

DATA = Path(__file__).parents[2] / "data"
SOURCES = {
    "event files": "event_files",
    "tables of DVCLive": "tables/dvclive",
    "tables of Lightning": "tables/lightning",
    "MLflow 3": "mlflow_stores/3.17.2.tar.xz",
    "MLflow with repeats": "mlflow_stores/repeats.tar.xz",
    "W&B 0.9": "wandb_runs/0.9.7.tar.xz",
    "W&B 0.16": "wandb_runs/0.16.6.tar.xz",
    "W&B 0.31": "wandb_runs/0.31.0.tar.xz",
}
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
Point = tuple[str, int, str, int]  # key, step, value as text, time (microseconds)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The directory of a source, which may be packed."""
    path = DATA / SOURCES[request.param]
    if path.is_dir():
        return path
    with tarfile.open(path) as packed:
        packed.extractall(tmp_path / "source", filter="data")
    for run in bridges.read(tmp_path / "source"):
        if run.key_style == "trainer":  # their metrics get other names in a target
            shutil.rmtree(Path(run.source).parent)
    return tmp_path / "source"


def expected(runs: Iterable[Run]) -> Counter[Point]:
    """All numbers of runs with the tags of a tracker; runs without times have synthetic ones."""
    found: Counter[Point] = Counter()
    for run in runs:
        assert run.key_style == "tags"
        stream, *_ = clocked(run, run.stream)
        for part in stream.numbers:
            times = stream.times(part).tolist()
            steps, values = stream.step[part.rows].tolist(), part.values.tolist()
            points = zip(steps, values, times, strict=True)
            found.update((part.key, step, repr(value), time) for step, value, time in points)
    return found


def in_tables(rows: Iterable[tuple[str, ...]]) -> Counter[Point]:
    """The points of rows of text: key, step, value, integer, kind, microseconds."""
    found: Counter[Point] = Counter()
    for key, step, value, integer, kind, time in rows:
        number = int(integer) if kind == "int" else float(value)
        found[key, int(step), repr(number == 1 if kind == "bool" else number), int(time)] += 1
    return found


def in_parquet(out: Path) -> Counter[Point]:
    columns = "key, step::text, value::text, integer::text, kind, epoch_us(time)::text"
    with duckdb.connect() as database:
        query = f"SELECT {columns} FROM '{out}/metrics/*.parquet'"
        return in_tables(database.execute(query).fetchall())


def in_csv(out: Path) -> Counter[Point]:
    """CSV by the module csv; its times by DuckDB, which keeps microseconds."""
    lines = []
    for path in (out / "metrics").glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            lines += [*csv.DictReader(file)]
    with duckdb.connect() as database:
        query = "SELECT unnest($1), epoch_us(unnest($1)::timestamptz)::text"
        times = dict(database.execute(query, [[*{line["time"] for line in lines}]]).fetchall())
    names = ("key", "step", "value", "integer", "kind")
    return in_tables((*(line[name] for name in names), times[line["time"]]) for line in lines)


def in_trackio(folder: Path) -> Counter[Point]:
    found: Counter[Point] = Counter()
    query = """SELECT step, metrics, CAST(strftime('%s', timestamp) AS INTEGER) * 1000000
        + CAST(substr(timestamp, 21, 6) AS INTEGER) FROM metrics"""
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            for step, text, time in database.execute(query):
                for key, value in json.loads(text).items():
                    value = SPECIAL.get(value, value) if isinstance(value, str) else value
                    if isinstance(value, bool | int | float):
                        found[own_key(key), step, repr(value), time] += 1
    return found


def own_key(key: str) -> str:
    """A key before Trackio's prefix for reserved keys."""
    return key[2:] if key.startswith("__") else key


READERS: dict[str, tuple[str, Any]] = {
    "parquet": ("out", in_parquet),
    "csv": ("out", in_csv),
    "trackio": ("trackio_dir", in_trackio),
}


@pytest.mark.parametrize("to", READERS)
def test_every_point_is_there_once(to: str, source: Path, tmp_path: Path) -> None:
    option, read = READERS[to]
    out, runs = tmp_path / "out", [*bridges.read(source)]
    options: dict[str, Any] = {"to": to, option: out}
    reports = [each for each in bridges.export(source, **options).runs if each.location]
    assert reports
    assert all(report.verified for report in reports), [report.findings for report in reports]
    points = expected(runs)
    assert read(out) == points
    assert points
    again = [each.status for each in bridges.export(source, **options).runs if each.location]
    assert {*again} == {"unchanged"}
    assert read(out) == points


def test_recorded_times_are_no_finding(source: Path, tmp_path: Path) -> None:
    """A clock is named only if there was a choice or a lack."""
    for _ in range(2):
        batch = bridges.export(source, to="csv", out=tmp_path / "out")
        found = {note.code for report in batch.runs for note in report.findings}
        assert "clock-source" not in found
