"""Benchmarks of MLflow file stores into SQLite, whole processes: ours and `migrate-filestore`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.mlflow_files import KEYS, POINTS, RUNS, make
from tests.benchmarks.timing import BRIDGE, ENVIRONMENT, cpu, line, process

SMALL_RUNS, SMALL_KEYS, PARAMS, TAGS = 170, 7, 18, 6  # runs of one-point metrics


def compare(root: Path, what: str, goal: str) -> None:
    """Wall time and CPU time of both, each into new files, A B A B."""
    ENVIRONMENT["MLFLOW_DISABLE_TELEMETRY"] = "true"
    target = ["--to", "mlflow", "--tracking-uri"]
    official = [sys.executable, "-m", "mlflow", "migrate-filestore", "--source", str(root)]

    def ours(name: str) -> list[str]:
        return [*BRIDGE, "export", "-q", str(root), *target, f"sqlite:///{root}-ours-{name}.db"]

    def theirs(name: str) -> list[str]:
        return [*official, "--target", f"sqlite:///{root}-theirs-{name}.db"]

    walls = [(process(theirs(f"{n}"))[0], process(ours(f"{n}"))[0]) for n in range(2)]
    wall = min(each for each, _ in walls) / min(each for _, each in walls)
    line(f"MLflow files to SQLite, verified, {what}: wall time", wall, goal, "migrate-filestore")
    line("the same, CPU time", cpu(theirs("cpu")) / cpu(ours("cpu")), "")


def long_metrics(folder: Path) -> None:
    """Few runs with long metrics."""
    make(folder / "long" / "mlruns", RUNS, len(KEYS), POINTS, 4, 4)
    os.sync()
    compare(folder / "long", f"{RUNS * len(KEYS) * POINTS:,} points", "≥ 5")


def small_runs(folder: Path) -> None:
    """Many runs with metrics of one point, params and tags."""
    make(folder / "small" / "mlruns", SMALL_RUNS, SMALL_KEYS, 1, PARAMS, TAGS)
    os.sync()
    compare(folder / "small", f"{SMALL_RUNS} small runs", "≥ 10")


SECTIONS: dict[str, Callable[[Path], None]] = {
    "mlflow_copies": long_metrics,
    "mlflow_small_copies": small_runs,
}
