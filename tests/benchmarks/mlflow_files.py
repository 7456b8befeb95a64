"""Benchmarks of reading MLflow file stores, beside MLflow's client and a loop over all lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bridges.sources.mlflow.file_store import FileStore
from bridges.sources.mlflow.runs import run_of
from tests.benchmarks.timing import least_cpu, line, millis, own_cpu

KEYS = ("loss", "grad_norm", "learning_rate", "epoch", "entropy")
RUNS, POINTS = 32, 2_400  # of each key
SMALL_RUNS, SMALL_KEYS, PARAMS, TAGS = 200, 10, 20, 8
START = 1_796_000_000_000
META = """artifact_uri: file:///x/{run}/artifacts
end_time: 1796000009000
entry_point_name: ''
experiment_id: '0'
lifecycle_stage: active
run_id: '{run}'
run_name: run
source_name: ''
source_type: 4
source_version: ''
start_time: 1796000000000
status: 3
tags: []
user_id: me
"""
EXPERIMENT = """artifact_location: file:///x/0
experiment_id: '0'
lifecycle_stage: active
name: Default
"""


def make(root: Path, runs: int, keys: int, points: int, params: int, tags: int) -> None:
    """A store as the client writes it."""
    rng = np.random.default_rng(1)
    (root / "0").mkdir(parents=True)
    (root / "0" / "meta.yaml").write_text(EXPERIMENT)
    for number in range(runs):
        run = root / "0" / f"{number:032x}"
        for part in ("metrics", "params", "tags", "artifacts"):
            (run / part).mkdir(parents=True)
        (run / "meta.yaml").write_text(META.format(run=run.name))
        for key in range(keys):
            times = START + np.cumsum(rng.integers(1, 2000, points))
            values = (rng.random(points) * 3).tolist()
            lines = zip(times.tolist(), values, range(0, 10 * points, 10), strict=True)
            name = KEYS[key] if key < len(KEYS) else f"metric{key}"
            (run / "metrics" / name).write_text("".join(f"{t} {v} {s}\n" for t, v, s in lines))
        for part, count in (("params", params), ("tags", tags)):
            for index in range(count):
                (run / part / f"name{index}").write_text(f"value {index}")


def read(root: Path) -> int:
    """Read everything with `FileStore`; the number of points."""
    store = FileStore(str(root))
    heads = (head for experiment in store.experiments() for head in store.heads(experiment))
    return sum(len(metric.time) for head in heads for metric in store.read(head)[1])


def read_runs(root: Path) -> int:
    """Read everything into runs; the number of points."""
    store = FileStore(str(root))
    heads = (head for experiment in store.experiments() for head in store.heads(experiment))
    runs = (run_of(*store.read(head), str(root)) for head in heads)
    return sum(len(series.values) for run in runs for series in run.stream.series)


def loop(root: Path) -> int:
    """Read all files, metrics line by line into columns; the number of points."""
    points = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            if not folder.endswith("metrics"):
                continue
            times, values, steps = [], [], []
            for text in data.split(b"\n"):
                parts = text.split()
                if parts:
                    times.append(int(parts[0]))
                    values.append(float(parts[1]))
                    steps.append(int(parts[2]) if len(parts) > 2 else 0)
            columns = np.array(times, np.int64), np.array(values), np.array(steps, np.int64)
            points += len(columns[0])
    return points


def client(root: Path) -> int:
    """Read everything with MLflow's client; the number of points."""
    from mlflow.store.tracking.file_store import FileStore as ClientStore

    store = ClientStore(str(root))
    runs = store.search_runs(["0"], "", 1, max_results=50_000)
    return sum(
        len(store.get_metric_history(run.info.run_id, key))
        for run in runs
        for key in run.data.metrics
    )


def compare(root: Path, points: int, goals: tuple[str, str, str]) -> None:
    """CPU time of each way, and of MLflow's client once."""
    ways: list[Callable[[Path], int]] = [read, read_runs, loop]
    for way in (*ways, client):
        if way(root) != points:
            raise SystemExit(f"{way.__name__} did not read {points} points")
    ours, whole, by_line = least_cpu(*((lambda way=way: way(root)) for way in ways), repeats=5)
    stock = own_cpu(lambda: client(root))
    speed = f"{points / ours / 1e6:.2f} M points/s, {millis(ours)}"
    line("file store: faster than MLflow's client", stock / ours, goals[0], speed)
    line("file store: faster than a loop over its lines", by_line / ours, goals[1])
    line("file store: runs to records and metrics", whole / ours, goals[2], millis(whole))


def long_metrics(folder: Path) -> None:
    """A store of few runs with long metrics."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    make(folder / "long", RUNS, len(KEYS), POINTS, 0, 1)
    compare(folder / "long", RUNS * len(KEYS) * POINTS, ("≥ 9", "≥ 2.2", "≤ 1.6"))


def small_files(folder: Path) -> None:
    """A store of many runs with metrics of one point, params and tags."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    make(folder / "small", SMALL_RUNS, SMALL_KEYS, 1, PARAMS, TAGS)
    compare(folder / "small", SMALL_RUNS * SMALL_KEYS, ("≥ 9", "", ""))


SECTIONS = {"mlflow-files": long_metrics, "mlflow-small-files": small_files}
