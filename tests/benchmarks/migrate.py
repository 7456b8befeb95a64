"""Benchmark of migrations: workers, linear cost, memory, and doing it again."""

from __future__ import annotations

import json
import statistics
from itertools import count
from pathlib import Path

from bridges.sources.options import ReadOptions
from bridges.sources.trainer.state_file import TrainerStateSource
from tests.benchmarks.timing import (
    BRIDGE,
    cpu,
    history,
    in_turn,
    line,
    own_cpu,
    process,
    two_at_once,
)
from tests.dask_cluster import dask_cluster

RUNS, ROWS = 1_000, 500
MANY = 10_000


def make(folder: Path, runs: int, rows: int) -> None:
    """Directories of runs, each with one state."""
    for number in range(runs):
        place = folder / f"exp{number // 100}" / f"run{number}"
        place.mkdir(parents=True)
        history(place / "trainer_state.json", rows, seed=number)


def command(folder: Path, tree: str, workers: int, logdir: str = "tb") -> list[str]:
    """The command that migrates a tree of the folder into a log directory of it."""
    config = folder / f"{tree}-{logdir}.toml"
    logdir = json.dumps(str(folder / logdir))
    source = json.dumps(str(folder / tree))
    config.write_text(f'sources = [{source}]\n[[targets]]\nto = "tensorboard"\nlogdir = {logdir}\n')
    return [*BRIDGE, "migrate", str(config), "--workers", str(workers), "-q"]


def migrate(folder: Path) -> None:
    """Two workers to one, a re-run to the first time."""
    make(folder / "runs", RUNS, ROWS)

    logdirs = (f"tb{number}" for number in count())  # to delete one slows down the next

    def anew(workers: int) -> list[str]:
        return command(folder, "runs", workers, next(logdirs))

    (one, _), (two, _) = in_turn(lambda: anew(1), lambda: anew(2), repeats=5)
    note = f"two processes of pure computing: {two_at_once():.2f}×"
    line(f"{RUNS:,} runs × {ROWS} rows × 5 keys, 1 worker to 2", one / two, "≥ 1.7", note)
    again, _ = process(command(folder, "runs", 2, "tb0"))
    line("the same again, to the first time", two / again, "")


def migrate_cpu(folder: Path) -> None:
    """The CPU of one run more: all processes of the command, against parsing alone."""
    make(folder / "runs", RUNS, ROWS)
    make(folder / "one", 1, ROWS)
    states = [str(path) for path in (folder / "runs").rglob("trainer_state.json")]
    logdirs = (f"tb{number}" for number in count())

    def of_a_run() -> float:
        all_, one = (cpu(command(folder, tree, 1, next(logdirs))) for tree in ("runs", "one"))
        return (all_ - one) / (RUNS - 1)

    def read() -> None:
        for state in states:
            list(TrainerStateSource().read(state, ReadOptions()))

    own_cpu(read)
    times = [(of_a_run(), own_cpu(read) / RUNS) for _ in range(5)]
    run, parsing = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
    note = f"{run - parsing:.1f} ms (goal: 6) beyond the {parsing:.1f} ms of parsing"
    line(f"CPU of a run of {ROWS} rows × 5 keys, to parsing it", run / parsing, "", note)


def migrate_many(folder: Path) -> None:
    """Cost and memory of ten times as many runs, and a re-run of them."""
    make(folder / "few", MANY // 10, ROWS)
    make(folder / "many", MANY, ROWS)
    few, low = process(command(folder, "few", 2, "few"))
    many, high = process(command(folder, "many", 2))
    again, _ = process(command(folder, "many", 2))
    line(f"{MANY:,} runs, for each run to {MANY // 10:,}", many / few / 10, "≤ 1.15")
    note = f"{low:.0f} and {high:.0f} MiB"
    line("peak memory to that of a tenth of the runs", high / low, "≤ 1.2", note)
    line(f"{MANY:,} runs again, to the first time", many / again, "≥ 10")


def migrate_dask(folder: Path) -> None:
    """A cluster of two workers on this machine to two worker processes."""
    make(folder / "runs", RUNS, ROWS)

    logdirs = (f"tb{number}" for number in count())

    def anew(*more: str) -> list[str]:
        return [*command(folder, "runs", 2, next(logdirs)), *more]

    with dask_cluster(2) as (address, _):
        process(anew("--engine", "dask", "--scheduler", address))  # its workers import once
        (local, _), (dask, _) = in_turn(
            anew, lambda: anew("--engine", "dask", "--scheduler", address), repeats=3
        )
    line(f"{RUNS:,} runs × {ROWS} rows × 5 keys, Dask to local", dask / local, "≤ 1.25")


SECTIONS = {
    "migrate": migrate,
    "migrate_cpu": migrate_cpu,
    "migrate_many": migrate_many,
    "migrate_dask": migrate_dask,
}
