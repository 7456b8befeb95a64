"""Benchmarks of MLflow as a source: reading whole stores, against mlflow's own client."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path

import numpy as np

from bridges.sources.mlflow.database import DatabaseStore
from bridges.sources.mlflow.postgres import PostgresDatabase
from bridges.sources.mlflow.server import ServerStore
from bridges.sources.mlflow.sqlite import SqliteDatabase
from bridges.sources.mlflow.store import Store
from tests.benchmarks.mlflow import quiet
from tests.benchmarks.timing import best, line

KEYS = [f"metric/{key}" for key in range(20)]
SHAPES = {"50,000 points": (5, 500), "50 runs of 20 points": (50, 1)}  # runs, steps
GOAL_OF_SMALL = "≥ 4"  # in PostgreSQL, where each query of a run waits for an answer
START = 1_700_000_000_000
REPEATS = 2


COLUMNS = {
    "experiments": "experiment_id, name, lifecycle_stage, artifact_location, workspace",
    "runs": "run_uuid, name, status, lifecycle_stage, start_time, experiment_id, artifact_uri,"
    " user_id, source_type",
    "metrics": "key, value, timestamp, run_uuid, step, is_nan",
    "latest_metrics": "key, value, timestamp, run_uuid, step, is_nan",
}


def insert(database: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows with the columns of COLUMNS."""
    places = ", ".join("?" * len(rows[0]))
    database.executemany(f"insert into {table} ({COLUMNS[table]}) values ({places})", rows)


def filled(path: Path, runs: int, steps: int) -> Path:
    """A new SQLite store with these runs, each with KEYS at every step."""
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{path}")
    _initialize_tables(engine)
    engine.dispose()
    values = np.random.default_rng(1).random(steps * len(KEYS)).tolist()
    with closing(sqlite3.connect(path)) as database:
        insert(database, "experiments", [(0, "x", "active", "/", "default")])
        for run in range(runs):
            id = f"{run:032x}"
            about = (f"run {run}", "FINISHED", "active", START + run, 0, "/", "me", "LOCAL")
            insert(database, "runs", [(id, *about)])
            points = [
                (key, value, START + step, id, step, 0)
                for value, (step, key) in zip(values, product(range(steps), KEYS), strict=True)
            ]
            insert(database, "metrics", points)
            insert(database, "latest_metrics", points[-len(KEYS) :])
        database.commit()
    return path


def read_by_client(uri: str) -> int:
    """Read all runs with mlflow's client; the number of points."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return sum(
        len(client.get_metric_history(run.info.run_id, key))
        for run in client.search_runs(["0"])
        for key in run.data.metrics
    )


def read_by_us(store: Store) -> int:
    """Read all runs; the number of points."""
    return sum(
        len(metric.value)
        for experiment in store.experiments()
        for head in store.heads(experiment)
        for metric in store.read(head)[1]
    )


def compare(name: str, goal: str, uri: str, open_store: Callable[[], Store]) -> None:
    """Print how much faster than mlflow's client a store is read."""
    assert read_by_us(open_store()) == read_by_client(uri)
    slow = best(lambda: read_by_client(uri), REPEATS)
    fast = best(lambda: read_by_us(open_store()), REPEATS)
    line(f"MLflow as a source, {name}: faster than mlflow's client", slow / fast, goal)


def databases(folder: Path) -> None:
    """SQLite and PostgreSQL."""
    from tests.integration.sources.mlflow.oracle import copy_database
    from tests.servers import postgresql

    quiet()
    with postgresql() as server:
        for number, (name, shape) in enumerate(SHAPES.items()):
            path = filled(folder / f"{number}.db", *shape)
            compare(
                f"SQLite, {name}",
                "≥ 9",
                f"sqlite:///{path}",
                lambda: DatabaseStore(SqliteDatabase(str(path))),  # noqa: B023
            )
            uri = server.create_database(f"source{number}")
            driver = uri.replace("postgresql:", "postgresql+psycopg:")
            copy_database(path, driver)
            compare(
                f"PostgreSQL, {name}",
                GOAL_OF_SMALL if shape[1] == 1 else "≥ 9",
                driver,
                lambda: DatabaseStore(PostgresDatabase(uri)),  # noqa: B023
            )


def servers(folder: Path) -> None:
    """A server over SQLite."""
    from tests.servers import mlflow_server

    quiet()
    for number, (name, shape) in enumerate(SHAPES.items()):
        path = filled(folder / f"served{number}.db", *shape)
        with mlflow_server(f"sqlite:///{path}") as url:
            compare(f"server, {name}", "≥ 1", url, lambda: ServerStore(url))


SECTIONS: dict[str, Callable[[Path], None]] = {
    "mlflow_source_databases": databases,
    "mlflow_source_servers": servers,
}
