"""Benchmarks: ratios within one run. `make bench`, or with names of sections to run only those.

Stock writers are slow, so they write a tenth of the scalars and their time is multiplied; every
line says so. Whole processes are timed from outside, the median of several in turn.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 200_000
SHARE = 10  # the stock tools handle ROWS / SHARE rows
KEYS = ("epoch", "grad_norm", "learning_rate", "loss", "entropy")
BRIDGE = [sys.executable, "-m", "bridges"]
# an installed package has its byte code beside it
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
LOOP = """
import json, sys
from tensorboardX import SummaryWriter
writer = SummaryWriter(sys.argv[2])
for row in json.load(open(sys.argv[1]))["log_history"]:
    step = row.pop("step")
    for key, value in row.items():
        writer.add_scalar("train/" + key, value, step)
writer.close()
"""
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
SEED = Path(__file__).parent.parent / "data" / "seed.txt"


def history(path: Path, rows: int, seed: int = 1) -> Path:
    """A trainer_state.json of that many training rows with five metrics each.

    Written row by row: a child's peak memory counts that of the process that started it.
    """
    rng = random.Random(seed)
    with open(path, "w") as file:
        file.write(f'{{\n  "global_step": {rows * 10},\n  "log_history": [\n')
        for row in range(rows):
            values = {
                "entropy": rng.random(),
                "epoch": (row + 1) / 9041,
                "grad_norm": rng.random() * 3,
                "learning_rate": 1e-4 * (1 - row / rows),
                "loss": round(rng.random() * 2, 4),
                "step": (row + 1) * 10,
            }
            text = json.dumps(values, indent=6).replace("\n}", "\n    }")
            file.write(f"    {text}{',' if row < rows - 1 else ''}\n")
        file.write(f'  ],\n  "max_steps": {rows * 10}\n}}\n')
    return path


def best(
    action: Callable[[], object], repeats: int = 5, before: Callable[[], object] = int
) -> float:
    """The median time of an action, in seconds; `before` runs before each, unmeasured."""
    times = []
    for _ in range(repeats):
        before()
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def process(command: list[str]) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MiB of a whole process."""
    started = time.perf_counter()
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=ENVIRONMENT)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command} failed with exit code {child.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def in_turn(*commands: Callable[[], list[str]], repeats: int = 5) -> list[tuple[float, float]]:
    """Median wall time and largest peak of each command, run A B A B …"""
    results: list[list[tuple[float, float]]] = [[] for _ in commands]
    for _ in range(repeats):
        for index, command in enumerate(commands):
            results[index].append(process(command()))
    return [(statistics.median(w for w, _ in r), max(p for _, p in r)) for r in results]


def line(what: str, figure: float, goal: str, note: str = "") -> None:
    """One line of the table."""
    print(f"{what:<62}{figure:>10,.2f}×   {goal:<10}{note}")


def writer(folder: Path) -> None:
    """The writer alone, from columns."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    from bridges.exporters.event_file import ScalarColumn, scalar_records

    rng = np.random.default_rng(1)
    step = (np.arange(ROWS, dtype=np.int64) + 1) * 10
    wall_time = np.linspace(1.7e9, 1.8e9, ROWS, dtype=np.float64)
    values = [rng.random(ROWS).astype(np.float32) for _ in KEYS]
    columns = [
        ScalarColumn(f"train/{key}", np.arange(ROWS), value)
        for key, value in zip(KEYS, values, strict=True)
    ]
    path = folder / "fast"

    def ours(sync: bool) -> None:
        path.unlink(missing_ok=True)
        with open(path, "wb", buffering=0) as file:
            blocks: Iterator[Any] = scalar_records(columns, step, wall_time)
            for block in blocks:
                file.write(block)
            if sync:
                os.fsync(file.fileno())

    def raw() -> None:
        (folder / "raw").unlink(missing_ok=True)
        with open(folder / "raw", "wb", buffering=0) as file:
            file.write(ready)
            os.fsync(file.fileno())

    def stock() -> None:
        out = EventFileWriter(str(folder / "stock"))
        for row in range(ROWS // SHARE):
            for key, value in zip(KEYS, values, strict=True):
                point = Summary.Value(tag=f"train/{key}", simple_value=value[row])
                event = Event(wall_time=wall_time[row], step=int(step[row]))
                event.summary.value.append(point)
                out.add_event(event)
        out.close()

    ours(True)
    ready = path.read_bytes()
    fast, synced, floor = best(lambda: ours(False)), best(lambda: ours(True)), best(raw)
    slow = best(stock, 1) * SHARE
    line("writer alone, 1,000,000 scalars: faster than EventFileWriter", slow / fast, "≥ 1,000")
    line("the same with fsync", slow / synced, "", f"{synced * 1000:.0f} ms")
    line("with fsync, to writing the same bytes from one buffer", synced / floor, "≤ 4")


def whole(folder: Path) -> None:
    """`bridge export` of one large history as a whole process."""
    state, part = history(folder / "state.json", ROWS), history(folder / "part.json", ROWS // SHARE)
    loop_file = folder / "loop.py"
    loop_file.write_text(LOOP)

    def bridge(*more: str) -> Callable[[], list[str]]:
        def command() -> list[str]:
            shutil.rmtree(folder / "runs", ignore_errors=True)
            target = ["--to", "tensorboard", "--logdir", str(folder / "runs")]
            return [*BRIDGE, "export", str(state), *target, *more]

        return command

    (plain, _), (checked, peak) = in_turn(bridge("--no-verify"), bridge("--verify"))
    empty = history(folder / "empty.json", 1)
    loop = process([sys.executable, str(loop_file), str(part), str(folder / "x")])[0]
    start = process([sys.executable, str(loop_file), str(empty), str(folder / "y")])[0]
    loops = start + (loop - start) * SHARE
    line("whole process, unverified: faster than a tensorboardX loop", loops / plain, "≥ 60")
    line("whole process, verified: faster than a tensorboardX loop", loops / checked, "")
    line("verified to unverified", checked / plain, "≤ 1.5")
    size = state.stat().st_size / 2**20
    line("peak memory to the size of the file", peak / size, "≤ 8", f"{peak:.0f} of {size:.0f} MiB")


def small(folder: Path) -> None:
    """A small history, verified, to the imports that it cannot do without."""

    def bridge() -> list[str]:
        shutil.rmtree(folder / "small", ignore_errors=True)
        target = ["--to", "tensorboard", "--logdir", str(folder / "small")]
        return [*BRIDGE, "export", str(SEED), *target]

    def imports() -> list[str]:
        return [sys.executable, "-c", "import numpy, pydantic"]

    process(bridge())
    (ours, _), (floor, _) = in_turn(bridge, imports, repeats=15)
    line("seed file, verified, to `import numpy, pydantic`", ours / floor, "≤ 2.5")


def mlflow_sqlite(folder: Path) -> None:
    """Into an existing MLflow database: ours, the client's batches, and the bare inserts."""
    import sqlite3

    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from bridges.exporters.mlflow import MlflowExporter
    from bridges.exporters.mlflow_rows import metric_columns
    from bridges.exporters.mlflow_sqlite import SqliteDatabase
    from bridges.pipeline import ExportOptions, export_run, read_runs
    from bridges.stream.layout import LayoutOptions, lay_out

    rows = 20_000
    state, uri = history(folder / "state.json", rows), f"sqlite:///{folder}/mlflow.db"
    exporter = MlflowExporter(uri)
    (run,) = read_runs(str(state), ExportOptions())
    layout = lay_out(run, "mlflow", LayoutOptions())
    columns = list(metric_columns(layout, 0))
    SqliteDatabase(str(folder / "mlflow.db")).create()
    database = sqlite3.connect(folder / "mlflow.db", isolation_level=None)
    client, names = MlflowClient(uri), iter(range(1000))

    def empty() -> None:
        for name in ("metrics", "latest_metrics", "params", "tags", "runs"):
            database.execute(f"delete from {name}")

    def ours(verify: bool) -> None:
        assert not export_run(run, exporter, ExportOptions(verify=verify)).failed

    def batches() -> None:
        run_id = client.create_run("0", run_name=str(next(names))).info.run_id
        points = [
            Metric(column.key, *point)
            for column in columns
            for point in zip(
                column.value.tolist(), column.time.tolist(), column.step.tolist(), strict=True
            )
        ]
        for start in range(0, len(points), 1000):
            client.log_batch(run_id, points[start : start + 1000])

    def bare() -> None:
        database.execute("begin")
        for column in columns:
            values = zip(
                column.value.tolist(), column.time.tolist(), column.step.tolist(), strict=True
            )
            database.executemany(
                f"insert into metrics (key, value, is_nan, timestamp, step, run_uuid)"
                f" values ('{column.key}', ?, 0, ?, ?, 'x')",
                values,
            )
        database.execute("commit")

    fast = best(lambda: ours(False), before=empty)
    checked = best(lambda: ours(True), before=empty)
    floor = best(bare, before=empty)
    slow = best(batches, 3, before=empty)
    line("MLflow, SQLite, 100,000 points: faster than log_batch of 1,000", slow / fast, "≥ 12")
    line("the same to bare executemany of the same rows", fast / floor, "≤ 2")
    line("verified to unverified", checked / fast, "≤ 1.4")


def mlflow_whole(folder: Path) -> None:
    """Whole processes into an existing MLflow database: one long run, and 200 small ones."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = ENVIRONMENT["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from bridges.exporters.mlflow_sqlite import SqliteDatabase

    client = folder / "client.py"
    client.write_text(CLIENT)
    long = [str(history(folder / "long.json", ROWS // SHARE))]
    small = [str(history(folder / f"{n}.json", 100, seed=n)) for n in range(200)]
    for what, goal, files in (
        ("MLflow, whole process, one run of 100,000 points, verified", "≥ 10", long),
        ("MLflow, whole process, 200 runs of 500 points, verified", "≥ 4", small),
    ):
        times: list[float] = []
        for command in ([*BRIDGE, "export", "-q", "--to", "mlflow", "--tracking-uri"], None):
            uri = f"sqlite:///{folder}/{what[-20:-10]}{len(times)}.db"
            SqliteDatabase(uri.removeprefix("sqlite:///")).create()
            ours = [*(command or [sys.executable, str(client)]), uri, *files]
            times.append(process(ours)[0])
        line(what, times[1] / times[0], goal, "to log_batch of 1,000")


def main() -> None:
    """Run the sections named on the command line, or all."""
    sections = {
        "writer": writer,
        "whole": whole,
        "small": small,
        "mlflow": mlflow_sqlite,
        "mlflow_whole": mlflow_whole,
    }
    for name in sys.argv[1:] or sections:
        with tempfile.TemporaryDirectory() as folder:
            sections[name](Path(folder))


if __name__ == "__main__":
    main()
