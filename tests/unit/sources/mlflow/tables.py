"""Databases with the tables of a release of mlflow, filled by plain SQL."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support import DATA

FILES = sorted((DATA / "mlflow_schemas").glob("*.sql"))
NEWEST = DATA / "mlflow_schemas" / "3.17.2.sql"
RUN = "a" * 32
START = 1_700_000_000_000
RUN_TABLES = ("metrics", "latest_metrics", "params", "tags", "runs")
POINTS = (
    "insert into metrics (key, value, is_nan, timestamp, step, run_uuid) values (?, ?, ?, ?, ?, ?)"
)


def make_database(path: Path, script: Path = NEWEST) -> None:
    """A database of that release with one run in the experiment 1, and another one by us."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("pragma synchronous = off")
        database.executescript(f"begin; {script.read_text()}; commit")
        add_run(database, RUN)
        database.commit()


def add_run(database: sqlite3.Connection, run: str, **values: Any) -> None:
    """A run in the experiment 1."""
    row = {
        "run_uuid": run,
        "name": "a run",
        "status": "FINISHED",
        "lifecycle_stage": "active",
        "start_time": START,
        "end_time": START + 5,
        "experiment_id": 1,
        "source_type": "LOCAL",
        **values,
    }
    names, places = ", ".join(row), ", ".join("?" * len(row))
    database.execute(f"insert into runs ({names}) values ({places})", [*row.values()])


def add_points(database: sqlite3.Connection, points: Iterable[tuple[Any, ...]]) -> None:
    """Points of RUN: key, value, is_nan, timestamp, step."""
    is_alone = not database.in_transaction
    if is_alone:
        database.execute("begin")
    database.executemany(POINTS, [(*point, RUN) for point in points])
    if is_alone:
        database.execute("commit")


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of change of each file, and the time of the folder itself."""
    found = {"": ("", folder.stat().st_mtime_ns)}
    for name in sorted(os.listdir(folder)):
        path = folder / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[name] = digest, path.stat().st_mtime_ns
    return found
