"""Benchmark of directory trees: discovery, folding and reading of many runs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from bridges import export
from tests.benchmarks.timing import BRIDGE, history, in_turn, line

FEW, MANY, ROWS, SAVES = 500, 2000, 100, 5
TIMED_ROWS = 200_000


def make(folder: Path, runs: int) -> None:
    """A tree of runs, each with SAVES checkpoints, the last of ROWS rows."""
    for number in range(runs):
        rng = random.Random(number)
        rows: list[dict[str, Any]] = [
            {"loss": rng.random(), "grad_norm": rng.random(), "epoch": step / 20, "step": step}
            for step in range(1, ROWS + 1)
        ]
        for save in range(1, SAVES + 1):
            count = ROWS * save // SAVES
            place = folder / f"exp{number}" / f"checkpoint-{count}"
            place.mkdir(parents=True)
            found = {"global_step": count, "max_steps": ROWS, "log_history": rows[:count]}
            (place / "trainer_state.json").write_text(json.dumps(found))
            (place / "config.json").write_text('{"hidden_size": 8}')


def tree(folder: Path) -> None:
    """Time and memory of a tree of 2,000 runs to those of 500, as whole processes."""
    for runs in (FEW, MANY):
        make(folder / str(runs), runs)

    def planned(runs: int) -> list[str]:
        return [*BRIDGE, "export", str(folder / str(runs)), "--to", "memory", "--dry-run", "-q"]

    (few, low), (many, high) = in_turn(lambda: planned(FEW), lambda: planned(MANY), repeats=3)
    times = MANY / FEW
    line(f"{MANY:,} runs of {SAVES} saves, for each run to {FEW}", many / few / times, "≤ 1.15")
    note = f"{low:.0f} and {high:.0f} MiB, {many / MANY * 1000:.1f} ms a run"
    line("peak memory to that of a quarter of the runs", high / low, "≤ 1.2", note)


def clock(folder: Path) -> None:
    """What it costs to find every row of a long history in the event file beside it."""
    alone, beside = folder / "alone", folder / "beside"
    for place in (alone, beside):
        place.mkdir()
        history(place / "trainer_state.json", TIMED_ROWS)
    export(alone, to="tensorboard", logdir=str(beside / "runs"), verify=False)

    def planned(place: Path) -> list[str]:
        return [*BRIDGE, "export", str(place), "--to", "memory", "--dry-run", "-q"]

    (without, low), (with_it, high) = in_turn(
        lambda: planned(alone), lambda: planned(beside), repeats=3
    )
    note = f"{low:.0f} and {high:.0f} MiB"
    line(f"{TIMED_ROWS:,} rows × 5 keys timed by an event file", with_it / without, "≤ 1.5", note)


SECTIONS = {"tree": tree, "clock": clock}
