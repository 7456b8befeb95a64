"""Check that event files of the newest releases of their writers are read, exported and shown.

In a virtual environment, which is thrown away, PyTorch, tensorboardX, TensorFlow, Keras, Lightning,
Stable-Baselines3 and CatBoost write logs (`live_event_writers.py`). TensorFlow's reader and a real
TensorBoard are the judges. From the repository's root:

    python -m tests.golden.check_event_writers
    python -m tests.golden.check_event_writers PYTHON   # of an environment that has the packages
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import bridges
from bridges.stream.model import Run
from tests.bounds import until
from tests.integration.exporters.tensorboard.test_server import tensorboard
from tests.integration.sources.tensorboard.test_served_points import is_shown, points

PACKAGES = (
    *("tensorflow-cpu", "torch", "tensorboard", "tensorboardX", "lightning"),
    *("stable-baselines3", "catboost"),
)
WRITER = Path(__file__).with_name("live_event_writers.py")
WRITERS = (
    *("tensorflow", "pytorch", "tensorboardx", "lightning", "stable_baselines3", "catboost"),
    "points",  # the last one
)
RUNS = {  # with the number of points, superseded ones included
    "catboost": 48,
    "lightning/lightning_logs/version_0": 43,
    "lightning/lightning_logs/version_1": 43,
    "pytorch/curves": 37,
    "pytorch/resumed": 24,
    "stable_baselines3/PPO_1": 24,
    "tensorboardx": 37,
    "tensorflow/keras": 60,
    "tensorflow/scalars": 144,
}
PARAMS = {"lr": 0.1, "layers": 3.0, "name": "x"}
Point = tuple[str, int, str]  # tag, step, bits of the value, which a table may have as float64


def main(arguments: Sequence[str]) -> None:
    """Write the files and check them. Raises AssertionError."""
    with tempfile.TemporaryDirectory(prefix="event-writers-") as name:
        folder = Path(name)
        python = arguments[0] if arguments else environment(folder / "venv")
        for writer in WRITERS:
            subprocess.run([python, str(WRITER), str(folder / "logs"), writer], check=True)
        check(folder / "logs", folder / "out", folder)
    print(f"{len(RUNS)} runs, {sum(RUNS.values())} points")


def environment(folder: Path) -> str:
    """A new environment with the packages; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def check(logs: Path, out: Path, spare: Path) -> None:
    """Compare the runs with the points that TensorFlow reads, and with those of an export."""
    runs = {run.name: run for run in bridges.read(logs, source="tensorboard")}
    superseded = {name: of_code(run, "points-superseded") for name, run in runs.items()}
    counts = {name: run.stream.points + superseded[name] for name, run in runs.items()}
    assert counts == RUNS, counts
    stored = json.loads((logs / "points.json").read_text())
    every = Counter(
        (tag, step, as_float32(*struct.unpack("<d", bytes.fromhex(bits))))
        for found in stored.values()
        for tag, step, _, bits in found
    )
    mine = Counter(point for run in runs.values() for point in read_points(run))
    assert mine <= every, mine - every
    assert (every - mine).total() == sum(superseded.values()), every - mine
    assert runs["pytorch/curves"].params == runs["tensorboardx"].params == PARAMS
    assert runs["lightning/lightning_logs/version_1"].params == {"lr": 0.2}
    for _ in range(2):
        report = bridges.export(logs, to="tensorboard", logdir=out, source="tensorboard")
        assert all(run.verified for run in report.runs), report
    assert {run.status for run in report.runs} == {"unchanged"}
    again = {run.name: run for run in bridges.read(out, source="tensorboard")}
    assert {name: Counter(read_points(run)) for name, run in again.items()} == {
        name: Counter(read_points(run)) for name, run in runs.items()
    }
    with tensorboard(out, spare) as server:
        for name, run in runs.items():
            for folder, want in by_directory(run).items():
                until(partial(is_shown, server, f"{name}{folder}", want))


def of_code(run: Run, code: str) -> int:
    """The count of the findings with a code."""
    return sum(each.count for each in run.findings if each.code == code)


def read_points(run: Run) -> list[Point]:
    """The points of a run, with the tags of their files."""
    return [
        (tag, step, as_float32(value))
        for series in run.stream.numbers
        for tag in [series.key.removeprefix(f"{run.folders.get(series.key, '')}/")]
        for step, value in zip(
            run.stream.step[series.rows].tolist(), series.values.tolist(), strict=True
        )
    ]


def as_float32(value: float) -> str:
    """The bits of a value as float32."""
    return struct.pack("<f", value).hex()


def with_float32(run: Run) -> Run:
    """The run with values as event files have them."""
    series = [replace(each, values=each.values.astype(np.float32)) for each in run.stream.numbers]
    return replace(run, stream=replace(run.stream, series=tuple(series)))


def by_directory(run: Run) -> dict[str, dict[str, list[tuple[int, str]]]]:
    """The points that TensorBoard shows of a run, by directory and tag."""
    found: dict[str, dict[str, list[tuple[int, str]]]] = {}
    for key, shown in points(with_float32(run)).items():
        folder = f"/{run.folders[key]}" if key in run.folders else ""
        found.setdefault(folder, {})[key.removeprefix(f"{folder[1:]}/")] = shown
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
