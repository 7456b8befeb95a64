"""DuckDB, Polars, pandas and pyarrow read the tables as the documentation says."""

from __future__ import annotations

import csv
import json
import math
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.dataset
import pytest

from bridges.exporters.factory import make_exporters
from bridges.pipeline.export_run import export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.model import MetricStream, Run, Series
from bridges.testing.exporters import ROWS
from tests.support import make_run

FORMATS = ("parquet", "csv")
COLUMNS = ["run", "key", "row", "step", "epoch", "time", "value", "integer", "kind"]
ODD_NAME = "b=1/[ü], 'x' \"y\"\n*"
BIG = 2**53 + 1


def export(run: Run, to: str, out: Path, **options: Any) -> RunReport:
    (exporter,) = make_exporters([to], {"out": str(out), **options})
    report = export_run(run, exporter, ExportOptions())
    assert report.verified, report.findings
    return report


def duck(query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, with times in UTC."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        found: list[tuple[Any, ...]] = database.execute(query).fetchall()
        return found


@pytest.fixture(params=FORMATS)
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The format and the directory of two runs."""
    for name, factor in (("plain", 1.0), (ODD_NAME, 2.0)):
        rows = [{**row, "loss": row["loss"] * factor} if "loss" in row else row for row in ROWS]
        params = {"lr": 1e-5, "name": 'a "quoted", text\r\n', "layers": [1, 2], "none": None}
        run = make_run(rows, name=name, params=params, group="g", tags={"who": "me"})
        export(run, request.param, tmp_path / "out", wide=True)
    return request.param, tmp_path / "out"


def files(tables: tuple[str, Path], table: str) -> str:
    to, out = tables
    return f"{out}/{table}/*.{to}"


def points_of(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Row, key, step, value, kind and integer of each number, as the table is to hold them."""
    found: list[tuple[Any, ...]] = []
    for at, row in enumerate(rows):
        for key, value in row.items():
            kind = type(value).__name__
            if key != "step" and kind in ("int", "float", "bool"):
                whole = value if kind == "int" else None
                found.append((at, key, row["step"], float(value), kind, whole))
    return found


def test_duckdb_reads_every_point_of_all_runs(tables: tuple[str, Path]) -> None:
    columns = "row, key, step, value, kind, integer"
    found = duck(f"SELECT {columns} FROM '{files(tables, 'metrics')}' WHERE run LIKE 'g-plain%'")
    assert sorted(map(repr, found)) == sorted(map(repr, points_of(ROWS)))
    runs = duck(f"SELECT run, count(*) FROM '{files(tables, 'metrics')}' GROUP BY run")
    assert [count for _, count in runs] == [len(points_of(ROWS))] * 2
    assert duck(f"SELECT integer FROM '{files(tables, 'metrics')}' WHERE key = 'eval_big'") == [
        (BIG,),
        (BIG,),
    ]


def test_a_run_is_joined_with_its_row_and_its_params(tables: tuple[str, Path]) -> None:
    query = f"""
        SELECT r.name, r.rows, r.points, count(*), r.clock, r.complete, any_value(p.json)
        FROM '{files(tables, "metrics")}' m JOIN '{files(tables, "runs")}' r USING (run)
        JOIN '{files(tables, "params")}' p USING (run)
        WHERE p.param = 'lr' GROUP BY ALL ORDER BY r.name DESC"""
    counts = (len(ROWS), len(points_of(ROWS)) + 4, len(points_of(ROWS)), "duration", True)
    expected = [("plain", *counts), (ODD_NAME, *counts)]
    found = [(name, *rest[:-1]) for name, *rest in duck(query)]
    assert found == expected
    param = duck(f"SELECT value FROM '{files(tables, 'params')}' WHERE param = 'name'")
    assert param == [('a "quoted", text\r\n',)] * 2


def test_texts_and_objects_are_json(tables: tuple[str, Path]) -> None:
    found = duck(
        f"SELECT key, step, json FROM '{files(tables, 'texts')}' WHERE run LIKE 'g-plain%'"
    )
    expected = {"note": "fine", "eval_list": [1, 2], "eval_none": None, "eval_dict": {"a": 1}}
    assert {key: json.loads(text) for key, _, text in found} == expected
    assert {step for _, step, _ in found} == {3}


def test_polars_reads_the_types_and_counts_nan(tables: tuple[str, Path]) -> None:
    to, pattern = tables[0], files(tables, "metrics")
    read = polars.scan_parquet if to == "parquet" else polars.scan_csv
    more: dict[str, Any] = {} if to == "parquet" else {"try_parse_dates": True}
    table = read(pattern, glob=True, **more).collect()
    assert table.columns == COLUMNS
    types = [polars.String, polars.String, polars.Int64, polars.Int64, polars.Float64]
    time = polars.Datetime("us", "UTC")
    assert table.dtypes == [*types, time, polars.Float64, polars.Int64, polars.String]
    nan = table.filter(polars.col("value").is_nan())
    assert nan["key"].to_list() == ["loss"] * 2
    losses = table.filter(
        (polars.col("key") == "loss") & polars.col("run").str.starts_with("g-plain")
    )
    assert [str(value) for value in losses["value"]] == ["2.5", "nan", "-0.0"]
    assert math.copysign(1, losses["value"][2]) == -1


def test_pandas_and_pyarrow_read_the_folder(tables: tuple[str, Path]) -> None:
    to, out = tables
    if to == "csv":
        found = [*(out / "metrics").glob("*.csv")]
        table = pandas.concat([pandas.read_csv(path) for path in found])
    else:
        table = pandas.read_parquet(out / "metrics")
        assert pyarrow.dataset.dataset(out / "metrics").count_rows() == len(table)
    assert [*table.columns] == COLUMNS
    assert len(table) == 2 * len(points_of(ROWS))
    assert int(table.value.isna().sum()) == 2
    assert (
        sorted(table[table.key == "grad_norm"].value)
        == [-math.inf] * 2 + [1.5] * 2 + [math.inf] * 2
    )


def test_pandas_keeps_integers_with_arrow_types(tmp_path: Path) -> None:
    export(make_run(ROWS), "parquet", tmp_path)
    table = pandas.read_parquet(tmp_path / "metrics", dtype_backend="pyarrow")
    assert table[table.key == "eval_big"].integer.tolist() == [BIG]


def test_the_wide_table_has_a_column_for_each_metric(tables: tuple[str, Path]) -> None:
    pattern = files(tables, "wide").replace("*", "g-plain*")
    query = f"SELECT row, step, epoch, loss, eval_flag, eval_big FROM '{pattern}' ORDER BY row"
    shown = [tuple(str(value) for value in row) for row in duck(query)]
    assert shown == [
        ("0", "1", "0.5", "2.5", "None", "None"),
        ("1", "2", "1.0", "nan", "None", "None"),
        ("2", "2", "1.0", "None", "True", str(BIG)),
        ("3", "3", "1.5", "-0.0", "None", "None"),
        ("5", "3", "1.5", "None", "None", "None"),
    ]


@pytest.mark.parametrize("to", FORMATS)
def test_recorded_times_are_exact_to_the_microsecond(to: str, tmp_path: Path) -> None:
    """Also those of points, which may differ within a row, be equal, and fall."""
    start = 1_700_000_000_123_456
    times = np.array([start, start - 1, start - 1, start + 10**9 + 7])
    rows = np.array([0, 0, 1, 1])
    values = np.array([1.0, 2.0, 3.0, 4.0])
    parts = [Series(key, rows[i::2], values[i::2], times[i::2]) for i, key in enumerate("ab")]
    stream = MetricStream(np.array([5, 9]), np.zeros(2, np.uint8), tuple(parts))
    run = Run("r", stream, "test", key_style="tags", identity=("r",), start=start, end=start)
    export(run, to, tmp_path)
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    query = f"SELECT key, step, time FROM '{tmp_path}/metrics/*.{to}' ORDER BY value"
    found = [
        (key, step, (time - epoch) // timedelta(microseconds=1)) for key, step, time in duck(query)
    ]
    assert found == [
        (key, step, int(time)) for key, step, time in zip("abab", (5, 5, 9, 9), times, strict=True)
    ]


def test_a_csv_file_is_plain(tmp_path: Path) -> None:
    """UTF-8 without a byte order mark, line feeds, quotes only where they are needed."""
    rows = [{"loss": 1e-05, 'a,"b"': 2, "é": 0.1, "step": 7}]
    export(make_run(rows, name="é"), "csv", tmp_path)
    (path,) = (tmp_path / "metrics").glob("*.csv")
    head, *lines = path.read_bytes().decode("utf-8").split("\n")
    assert head == ",".join(COLUMNS)
    name = path.name.removesuffix(".csv")
    assert lines[0].startswith(f"{name},loss,0,7,,2000-01-01T00:00:")
    assert lines[0].endswith("Z,1e-05,,float")
    assert f'{name},"a,""b""",0,7,' in lines[1]
    assert lines[1].endswith(",2.0,2,int")
    assert lines[-1] == ""
    assert [row["key"] for row in csv.DictReader(path.open(newline=""))] == ["loss", 'a,"b"', "é"]
