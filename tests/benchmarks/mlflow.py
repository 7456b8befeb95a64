"""Benchmarks of MLflow: databases, servers, and a store that is large already."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks.timing import (
    BRIDGE,
    ENVIRONMENT,
    ROWS,
    SHARE,
    best,
    history,
    line,
    process,
)

LONG, MANY, FEW = ROWS // SHARE, 200, 100  # rows of a long run; runs of FEW rows each
THERE = 3_000_000  # points of a large store
DAY = 86_400_000  # milliseconds
CLIENT = """
import json, sys
from mlflow import MlflowClient
from mlflow.entities import Metric
client = MlflowClient(sys.argv[1])
for path in sys.argv[2:]:
    run_id = client.create_run("0").info.run_id
    points = [
        Metric(key, value, 1 + index, row["step"])
        for index, row in enumerate(json.load(open(path))["log_history"])
        for key, value in row.items()
        if key != "step"
    ]
    for start in range(0, len(points), 1000):
        client.log_batch(run_id, points[start : start + 1000])
    client.set_terminated(run_id)
"""

if TYPE_CHECKING:
    from bridges.exporters.mlflow.options import MlflowWriter


class Store:
    """A tracking store with ways to fill it; each `export` goes into an experiment of its own."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.uri = uri
        self.client: Any = MlflowClient(uri)
        self.experiments = 0

    def export(self, files: list[Path], *, verify: bool, writer: MlflowWriter = "auto") -> None:
        """Ours, in this process."""
        from bridges.exporters.mlflow.exporter import MlflowExporter
        from bridges.exporters.mlflow.options import MlflowOptions
        from bridges.pipeline.batch import for_each_run
        from bridges.pipeline.export_run import export_run
        from bridges.pipeline.options import ExportOptions

        self.experiments += 1
        exporter = MlflowExporter(MlflowOptions(self.uri, f"e{self.experiments}", writer))
        options = ExportOptions(verify=verify)
        done = for_each_run(export_run, list(map(str, files)), [exporter], options)
        assert done.exit_code == 0, done.runs[0]

    def batches(self, files: list[Path], size: int = 1000) -> None:
        """The plain loop: what is read, logged in batches of that size."""
        from mlflow.entities import Metric

        for file in files:
            run_id = self.client.create_run("0").info.run_id
            rows = enumerate(json.loads(file.read_text())["log_history"])
            points = [
                Metric(key, value, 1 + index, row["step"])
                for index, row in rows
                for key, value in row.items()
                if key != "step"
            ]
            for start in range(0, len(points), size):
                self.client.log_batch(run_id, points[start : start + size])
            self.client.set_terminated(run_id)

    def per_row(self, file: Path) -> None:
        """The usual loop: one `log_metrics` for each row."""
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        with mlflow.start_run():
            for row in json.loads(file.read_text())["log_history"]:
                step = row.pop("step")
                mlflow.log_metrics(row, step=step)


def sqlite_store(path: Path) -> Store:
    """A new store in an SQLite file."""
    from bridges.exporters.mlflow.sqlite import SqliteDatabase

    SqliteDatabase(str(path)).create()
    return Store(f"sqlite:///{path}")


def quiet() -> None:
    """No telemetry, no links."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        os.environ[name] = ENVIRONMENT[name] = "true"


def small_runs(folder: Path) -> list[Path]:
    """Many small histories."""
    return [history(folder / f"{n}.json", FEW, seed=n) for n in range(MANY)]


def in_sqlite(folder: Path) -> None:
    """One long run into an SQLite store: ours, the client's ways, and the bare inserts."""
    quiet()
    file, share = history(folder / "long.json", LONG), history(folder / "part.json", LONG // 20)
    store = sqlite_store(folder / "mlflow.db")
    database = sqlite3.connect(folder / "mlflow.db", isolation_level=None)

    def empty() -> None:
        for name in ("metrics", "latest_metrics", "params", "tags", "runs"):
            database.execute(f"delete from {name}")

    def ours(**options: Any) -> Callable[[], None]:
        return lambda: store.export([file], **options)

    fast, checked = best(ours(verify=False), before=empty), best(ours(verify=True), before=empty)
    client = best(ours(verify=True, writer="client"), 3, before=empty)
    slow = best(lambda: store.batches([file]), 3, before=empty)
    rows = best(lambda: store.per_row(share), 1, before=empty) * 20
    empty()
    floor = best(lambda: bare(database, file), before=empty)
    line("MLflow, SQLite, 100,000 points: faster than log_batch of 1,000", slow / fast, "≥ 12")
    line("the same to bare executemany of the same rows", fast / floor, "≤ 2")
    line("verified to unverified", checked / fast, "≤ 1.4")
    line("by the client, verified: faster than log_metrics row by row", rows / client, "≥ 10")


def bare(database: sqlite3.Connection, file: Path) -> None:
    """Nothing but the inserts, reading the file included."""
    rows = json.loads(file.read_text())["log_history"]
    database.execute("begin")
    for key in ("entropy", "epoch", "grad_norm", "learning_rate", "loss"):
        points = [(row[key], index, row["step"]) for index, row in enumerate(rows)]
        database.executemany(
            "insert into metrics (key, value, is_nan, timestamp, step, run_uuid)"
            f" values ('{key}', ?, 0, ?, ?, '{'x' * 32}')",
            points,
        )
    database.execute("commit")


def whole(folder: Path) -> None:
    """Whole processes into an existing SQLite store: one long run, and many small ones."""
    quiet()
    client = folder / "client.py"
    client.write_text(CLIENT)
    ours, theirs = [*BRIDGE, "export", "-q", "--to", "mlflow", "--tracking-uri"], [str(client)]
    for what, goal, files in (
        ("one run of 100,000 points", "≥ 10", [history(folder / "long.json", LONG)]),
        ("200 runs of 500 points", "≥ 4", small_runs(folder)),
    ):
        times = []
        for number, order in enumerate((ours, [sys.executable, *theirs])):
            store = sqlite_store(folder / f"{goal[2:]}{number}.db")
            times.append(process([*order, store.uri, *map(str, files)])[0])
        line(f"MLflow, whole process, {what}, verified", times[1] / times[0], goal, "to log_batch")


def growth(folder: Path) -> None:
    """The rate with three million points in the store already: of runs with times of their own, and
    of runs that all have the same synthetic times, which is the worst for the table's indexes.
    """
    quiet()
    file = history(folder / "long.json", LONG)
    for what, goal, apart in (("other times", "≥ 0.5", DAY), ("the same times", "", 0)):
        path = folder / f"{what}.db"
        store, database = sqlite_store(path), sqlite3.connect(path)
        before = best(lambda: store.export([file], verify=True), 3)  # noqa: B023
        fill(database, THERE, apart)
        after = best(lambda: store.export([file], verify=True), 3)  # noqa: B023
        line(f"rate with 3,000,000 points of {what} there, to without", before / after, goal)


def fill(database: sqlite3.Connection, points: int, apart: int) -> None:
    """Runs of other people: 100,000 points each, of the same keys as ours, and starting `apart`
    milliseconds from each other.
    """
    step = np.arange(LONG, dtype=np.int64)
    for number in range(points // (5 * LONG)):
        run = f"{number:032}"
        database.execute(
            "insert into runs (run_uuid, name, lifecycle_stage, status, experiment_id)"
            " values (?, 'x', 'active', 'FINISHED', 0)",
            (run,),
        )
        for key in ("entropy", "epoch", "grad_norm", "learning_rate", "loss"):
            values = np.random.default_rng(number).random(LONG).tolist()
            times = (946_684_800_000 + number * apart + step * 10_000).tolist()
            rows = zip(values, times, (step * 10).tolist(), strict=True)
            database.executemany(
                "insert into metrics (key, value, is_nan, timestamp, step, run_uuid)"
                f" values ('{key}', ?, 0, ?, ?, '{run}')",
                rows,
            )
        database.commit()


def in_postgres(folder: Path) -> None:
    """One long run, and many small ones, into PostgreSQL."""
    from tests.servers import postgresql

    quiet()
    file, small = history(folder / "long.json", LONG), small_runs(folder)[:50]
    with postgresql() as server:
        store = Store(server.create_database("bench").replace("postgresql:", "postgresql+psycopg:"))
        store.export([file], verify=True)  # makes the tables
        for what, files, repeats in (("100,000 points", [file], 3), ("50 runs of 500", small, 3)):
            slow = best(lambda: store.batches(files), repeats)  # noqa: B023
            fast = best(lambda: store.export(files, verify=False), repeats)  # noqa: B023
            checked = best(lambda: store.export(files, verify=True), repeats)  # noqa: B023
            line(f"MLflow, PostgreSQL, {what}: faster than log_batch", slow / fast, "≥ 6")
            line("the same, verified", slow / checked, "")


def by_server(folder: Path) -> None:
    """One long run, and many small ones, through a default `mlflow server` over SQLite."""
    from tests.servers import mlflow_server

    quiet()
    file, small = history(folder / "long.json", LONG), small_runs(folder)
    for what, goal, files in (("100,000 points", "≥ 1.2", [file]), ("200 runs", "≥ 1.6", small)):
        path = folder / f"{what}.db"
        sqlite_store(path)
        with mlflow_server(f"sqlite:///{path}") as url:
            store = Store(url)
            slow = best(lambda: store.batches(files), 3)  # noqa: B023
            fast = best(lambda: store.export(files, verify=False), 3)  # noqa: B023
            checked = best(lambda: store.export(files, verify=True), 3)  # noqa: B023
        line(f"MLflow, server over SQLite, {what}: faster than log_batch", slow / fast, goal)
        line("the same, verified", slow / checked, "")


SECTIONS: dict[str, Callable[[Path], None]] = {
    "mlflow": in_sqlite,
    "mlflow_whole": whole,
    "mlflow_growth": growth,
    "mlflow_postgres": in_postgres,
    "mlflow_server": by_server,
}
