"""Benchmarks: ratios within one run. `make bench`, or with names of sections to run only those.

Stock writers are slow, so they write a tenth of the scalars and their time is multiplied; every
line says so.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import (
    event_files,
    migrate,
    mlflow,
    mlflow_copies,
    mlflow_files,
    mlflow_source,
    table_source,
    tables,
    trackio,
    tree,
    wandb,
)
from tests.benchmarks.timing import (
    BRIDGE,
    ROWS,
    SHARE,
    best,
    history,
    in_turn,
    least_cpu,
    line,
    millis,
    process,
)

KEYS = ("epoch", "grad_norm", "learning_rate", "loss", "entropy")
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
SEED = Path(__file__).parent.parent / "data" / "seed.txt"


def writer(folder: Path) -> None:
    """The writer alone, from columns."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    from bridges.formats.events.writer import ScalarColumn, scalar_records

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

    def raw(sync: bool = True) -> None:
        (folder / "raw").unlink(missing_ok=True)
        with open(folder / "raw", "wb", buffering=0) as file:
            file.write(ready)
            if sync:
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
    made, copied = least_cpu(lambda: ours(False), lambda: raw(False))
    line("CPU, to writing the same bytes from one buffer", made / copied, "≤ 3", millis(made))


def read(folder: Path) -> None:
    """Reading one large history, to parsing it as JSON alone."""
    from pydantic_core import from_json

    from bridges.sources.options import ReadOptions
    from bridges.sources.trainer.state_file import TrainerStateSource

    state = history(folder / "state.json", ROWS)
    source, options, data = TrainerStateSource(), ReadOptions(), state.read_bytes()
    ours, parsed = least_cpu(
        lambda: [*source.read(str(state), options)],
        lambda: from_json(data, cache_strings="keys"),
        repeats=5,
    )
    line("reading 1,000,000 values, to parsing JSON", ours / parsed, "≤ 1.8", millis(ours))


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
    line("seed file, verified, to `import numpy, pydantic`", ours / floor, "≤ 2.3")


def main() -> None:
    """Run the sections named on the command line, or all."""
    sections = {
        "writer": writer,
        "read": read,
        "whole": whole,
        "small": small,
        **event_files.SECTIONS,
        **mlflow.SECTIONS,
        **mlflow_source.SECTIONS,
        **mlflow_files.SECTIONS,
        **mlflow_copies.SECTIONS,
        **table_source.SECTIONS,
        **wandb.SECTIONS,
        **tables.SECTIONS,
        **trackio.SECTIONS,
        **tree.SECTIONS,
        **migrate.SECTIONS,
    }
    names = sys.argv[1:] or [*sections]
    if not sections.keys() >= {*names}:
        sys.exit(f"{__doc__}\nSections: {', '.join(sections)}")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            sections[name](Path(folder))


if __name__ == "__main__":
    main()
