"""Benchmarks of MLflow file stores into databases, whole processes: ours and `migrate-filestore`.

The latter writes SQLite only, so an export into PostgreSQL is compared with the same. Its database
has the tables of MLflow already, as one in use.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from bridges.exporters.mlflow.exporter import MlflowExporter
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.mlflow.rows import MetricColumn, metric_columns
from bridges.exporters.mlflow.schema import make_tables
from bridges.exporters.mlflow.sqlite import SqliteDatabase
from bridges.formats.mlflow_store.records import Metric
from bridges.pipeline.options import LayoutOptions
from bridges.pipeline.target import Target
from bridges.sources.mlflow.runs import run_of
from bridges.stream.model import Run
from tests.benchmarks.mlflow_files import KEYS, POINTS, RUNS, make
from tests.benchmarks.timing import BRIDGE, ENVIRONMENT, best, cpu, line, millis, process
from tests.mlflow_records import START, record

STORES = {  # runs, keys, points of a key, params and tags
    "long": ((RUNS, len(KEYS), POINTS, 4, 4), f"{RUNS * len(KEYS) * POINTS:,} points", "≥ 5"),
    "small": ((170, 7, 1, 18, 6), "170 small runs", "≥ 10"),
    "few": ((23, 5, 146, 14, 6), f"23 runs, {23 * 5 * 146:,} points", "≥ 10"),
}
LARGE_KEYS, LARGE_POINTS, POINT_BYTES = 20, 50_000, 24  # of a key; step, time and value
MANY = 100  # runs with as many points together
OTHER_RUN = "f" * 32

NewTarget = Callable[[], str]  # the URI of a new database


def order(root: Path, uri: str) -> list[str]:
    """Our command."""
    return [*BRIDGE, "export", "-q", str(root), "--to", "mlflow", "--tracking-uri", uri]


def compare(root: Path, what: str, goal: str, new: NewTarget) -> None:
    """Wall time and CPU time of both, each into new databases, A B A B."""
    ENVIRONMENT["MLFLOW_DISABLE_TELEMETRY"] = "true"
    official = [sys.executable, "-m", "mlflow", "migrate-filestore", "--source", str(root)]
    numbers = count()

    def theirs() -> list[str]:
        return [*official, "--target", f"sqlite:///{root}-theirs-{next(numbers)}.db"]

    walls = [(process(theirs())[0], process(order(root, new()))[0]) for _ in range(2)]
    wall = min(each for each, _ in walls) / min(each for _, each in walls)
    line(f"MLflow files to {what}: wall time", wall, goal, "migrate-filestore")
    line("the same, CPU time", cpu(theirs()) / cpu(order(root, new())), "")


def sqlite_in(folder: Path) -> NewTarget:
    """New SQLite files."""
    numbers = count()
    return lambda: f"sqlite:///{folder}/ours-{next(numbers)}.db"


def into_sqlite(folder: Path, name: str) -> None:
    """A store into SQLite."""
    shape, what, goal = STORES[name]
    make(folder / name / "mlruns", *shape)
    os.sync()
    compare(folder / name, f"SQLite, verified, {what}", goal, sqlite_in(folder))


def into_postgresql(folder: Path) -> None:
    """All stores into PostgreSQL."""
    from tests.servers import postgresql

    with postgresql() as server:
        driver = server.create_database("empty").replace("postgresql:", "postgresql+psycopg:")
        make_tables(driver, "./mlruns")
        numbers = count()

        def new() -> str:
            return server.create_database(f"ours{next(numbers)}", "empty")

        for name, (shape, what, goal) in STORES.items():
            make(folder / name / "mlruns", *shape)
            compare(folder / name, f"PostgreSQL, verified, {what}", goal, new)


def memory(folder: Path) -> None:
    """The peak memory of an export: of a large run, and of many small ones with as many points.

    The difference leaves out the program and the page cache of SQLite, which are the same.
    """
    new, keys, points = sqlite_in(folder), LARGE_KEYS, LARGE_POINTS
    columns = keys * points * POINT_BYTES
    shapes = {
        "many": (MANY, keys, points // MANY),
        "twice as many": (2 * MANY, keys, points // MANY),
        "large": (1, keys, points),
        "one key": (1, 1, keys * points),
    }
    peaks = {}
    for name, shape in shapes.items():
        make(folder / name / "mlruns", *shape, 0, 1)
        peaks[name] = process(order(folder / name, new()))[1] * 2**20
    million = f"{keys * points / 1e6:g} M points"
    for name, what, goal in (
        ("large", f"{keys} keys", "≤ 2"),
        ("one key", "one key", "≤ 2"),
    ):
        own = (peaks[name] - peaks["many"]) / columns
        line(
            f"peak memory, a run of {million} in {what}, to its columns",
            own,
            goal,
            f"{peaks[name] / 2**20:.0f} MiB",
        )
    more = peaks["twice as many"] / peaks["many"]
    line(f"peak memory of {2 * MANY} runs, to that of {MANY}", more, "≤ 1.1")


def inserts(folder: Path) -> None:
    """Writing a run from its layout, to inserting its points alone; CPU time of the client."""
    from tests.servers import postgresql

    run = run_of(record(), metrics_of(5, 20_000), "mlruns")
    path = folder / "inserts.db"
    SqliteDatabase(str(path)).create()
    with postgresql() as server, closing(sqlite3.connect(path, isolation_level=None)) as file:
        uri = server.create_database("inserts")
        make_tables(uri.replace("postgresql:", "postgresql+psycopg:"), "./mlruns")
        with psycopg.connect(uri, autocommit=True) as database:
            ours, bare = inserting(run, f"sqlite:///{path}", file, executemany)
            line("MLflow runs into SQLite, to bare executemany", ours / bare, "≤ 1.3", millis(ours))
            ours, bare = inserting(run, uri, database, copy)
            line("MLflow runs into PostgreSQL, to bare COPY", ours / bare, "≤ 1.3", millis(ours))


def metrics_of(keys: int, points: int) -> list[Metric]:
    """Metrics of one clock."""
    rng, step = np.random.default_rng(1), np.arange(points)
    return [Metric(f"key{at}", rng.random(points), START + step, step) for at in range(keys)]


def inserting(
    run: Run, uri: str, database: Any, insert: Callable[[Any, list[MetricColumn]], None]
) -> tuple[float, float]:
    """The least seconds of our writer and of the bare inserts, A B A B, into empty tables."""
    exporter = MlflowExporter(MlflowOptions(uri))
    target = Target(exporter, LayoutOptions())
    layout = target.lay_out(run, target.identity(run))
    columns = [*metric_columns(layout, 0)]
    times: list[tuple[float, float]] = []
    for _ in range(5):
        clear(database)
        ours = best(lambda: exporter.write(layout, [], None), 1)
        clear(database)
        times.append((ours, best(lambda: insert(database, columns), 1)))
    return min(each for each, _ in times), min(each for _, each in times)


def clear(database: Any) -> None:
    for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
        database.execute(f"delete from {table}")
    database.execute(f"insert into runs (run_uuid, experiment_id) values ('{OTHER_RUN}', 0)")


def executemany(database: Any, columns: list[MetricColumn]) -> None:
    statement = (
        "insert into metrics (key, value, is_nan, timestamp, step, run_uuid)"
        " values (?, ?, ?, ?, ?, ?)"
    )
    database.execute("begin")
    for column in columns:
        database.executemany(statement, points_of(column))
    database.execute("commit")


def copy(database: Any, columns: list[MetricColumn]) -> None:
    statement = "copy metrics (key, value, is_nan, timestamp, step, run_uuid) from stdin"
    with database.cursor() as cursor, cursor.copy(statement) as writer:
        for column in columns:
            for point in points_of(column):
                writer.write_row(point)


def points_of(column: MetricColumn) -> Iterator[tuple[object, ...]]:
    """The rows of a column."""
    values = (column.value.tolist(), column.is_nan.tolist(), column.time.tolist())
    points = zip(*values, column.step.tolist(), strict=True)
    return ((column.key, *point, OTHER_RUN) for point in points)


SECTIONS: dict[str, Callable[[Path], None]] = {
    "mlflow_copies": partial(into_sqlite, name="long"),
    "mlflow_small_copies": partial(into_sqlite, name="small"),
    "mlflow_few_copies": partial(into_sqlite, name="few"),
    "mlflow_copies_postgresql": into_postgresql,
    "mlflow_copies_memory": memory,
    "mlflow_copies_inserts": inserts,
}
