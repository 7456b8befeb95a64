"""Benchmarks of W&B: a long run and many short ones, to the public API in offline mode; and the
reading of a log.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bridges.formats.wandb_log.reader import LogReader
from bridges.formats.wandb_log.rows import read_columns
from tests.benchmarks.timing import (
    BRIDGE,
    ROWS,
    SHARE,
    best,
    history,
    in_turn,
    least_cpu,
    line,
    process,
)
from tests.wandb_logs import Raw, log_of, row_record, rows_of, summary_record

READ = """
import sys
from bridges.formats.wandb_log.reader import LogReader
from bridges.formats.wandb_log.rows import read_columns
with open(sys.argv[1], "rb") as file:
    history, _ = read_columns(LogReader(file).pieces())
columns = [*history.columns()]
"""
MANY, FEW = 500, 100  # runs, and rows of each
LOOP = """
import json, sys, wandb
for path in sys.argv[2:]:
    run = wandb.init(mode="offline", dir=sys.argv[1])
    for row in json.load(open(path))["log_history"]:
        run.log({"train/" + key: value for key, value in row.items() if key != "step"})
    run.finish()
wandb.teardown()
"""


def api(folder: Path, *files: Path) -> float:
    """The time of a whole process that logs the files by the API, with default settings."""
    place = folder / "api"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return process([sys.executable, "-c", LOOP, str(place), *map(str, files)])[0]


def bridge(folder: Path, files: list[Path], *more: str) -> Callable[[], list[str]]:
    """Our command, into an empty folder."""

    def command() -> list[str]:
        shutil.rmtree(folder / "ours", ignore_errors=True)
        target = ["--to", "wandb", "--wandb-dir", str(folder / "ours")]
        return [*BRIDGE, "export", *map(str, files), *target, *more]

    return command


def size(folder: Path) -> int:
    """Bytes of the one run's file."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return file.stat().st_size


def long(folder: Path) -> None:
    """One run of 200,000 rows: the API logs a tenth, and its time beyond one row is multiplied."""
    state, part = history(folder / "long.json", ROWS), history(folder / "part.json", ROWS // SHARE)
    start = api(folder, history(folder / "one.json", 1))
    loop = start + (api(folder, part) - start) * SHARE
    theirs = size(folder / "api") * SHARE
    ours = in_turn(bridge(folder, [state], "--no-verify"), bridge(folder, [state]), repeats=3)
    (plain, _), (checked, peak) = ours
    line("W&B, 200,000 rows, unverified, to the offline API", loop / plain, "≥ 20")
    line("W&B, 200,000 rows, every point read back, to the offline API", loop / checked, "≥ 20")
    line("size of the file to that of the API", size(folder / "ours") / theirs, "≤ 0.5")
    of_file = peak / (state.stat().st_size / 2**20)
    line("peak memory to the size of the source", of_file, "", f"{peak:.0f} MiB")


def writer(folder: Path, files: list[Path]) -> float:
    """The time to find no such run and write it, for each file, without reading the sources."""
    from bridges.exporters.wandb.exporter import WandbExporter
    from bridges.exporters.wandb.options import WandbOptions
    from bridges.pipeline.options import ExportOptions, LayoutOptions
    from bridges.pipeline.read_runs import read_runs
    from bridges.stream.layout import lay_out

    runs = [run for file in files for run in read_runs(str(file), ExportOptions())]
    layouts = [lay_out(run, "wandb", LayoutOptions()) for run in runs]

    def write() -> None:
        exporter = WandbExporter(WandbOptions(wandb_dir=str(folder / "alone")))
        for layout in layouts:
            seen = exporter.find(layout.identity)
            exporter.write(exporter.adapt(layout), seen, None)

    return best(write, 3, lambda: shutil.rmtree(folder / "alone", ignore_errors=True))


def many(folder: Path) -> None:
    """500 runs of 100 rows: the API logs a tenth of them."""
    files = []
    for number in range(MANY):
        (folder / str(number)).mkdir()
        files.append(history(folder / str(number) / "trainer_state.json", FEW, seed=number))
    start = api(folder, files[0])
    loop = start + (api(folder, *files[: MANY // SHARE]) - start) / (MANY // SHARE - 1) * (MANY - 1)
    ours = in_turn(bridge(folder, files, "--no-verify"), bridge(folder, files), repeats=3)
    (plain, _), (checked, _) = ours
    alone = writer(folder, files)
    line("W&B, 500 runs of 100 rows, the writer alone, to the offline API", loop / alone, "≥ 60")
    line("as a whole process, unverified", loop / plain, "")
    line("as a whole process, every point read back", loop / checked, "")
    again = process([*BRIDGE, "export", *map(str, files), "--to", "wandb", "--no-verify",
                     "--wandb-dir", str(folder / "ours")])[0]  # fmt: skip
    line("the same again, unverified, to the first export", plain / again, "")


def reading(folder: Path) -> None:
    """The log of 200,000 rows of 5 keys, as wandb-core writes it, to a loop over its records."""
    path = folder / "run-x.wandb"
    path.write_bytes(log_of(_records()))
    counts = set()

    def loop() -> None:
        counts.add(len(rows_of(path.read_bytes())))

    def ours() -> None:
        with path.open("rb") as file:
            history, _ = read_columns(LogReader(file).pieces())
        assert [*history.columns()]
        counts.add(history.count)

    theirs, own = least_cpu(loop, ours, repeats=3)
    assert counts == {ROWS}
    _, peak = process([sys.executable, "-c", READ, str(path)])
    line("W&B log, 200,000 rows to columns, to a loop over protobuf records", theirs / own, "≥ 5")
    note = f"{peak:.0f} MiB, of a log of {path.stat().st_size / 2**20:.0f} MiB"
    line("150 MiB to the peak memory of the process", 150 / peak, "≥ 1", note)


def _records() -> Iterator[bytes]:
    """A row and two summaries for each step, with the items of a row in any order."""
    chance = random.Random(1)
    for step in range(ROWS):
        row = {
            "train/loss": chance.random() * 3 if step % 50 else 2,
            "train/learning_rate": 5e-5 * (1 - step / ROWS),
            "train/grad_norm": chance.expovariate(1),
            "train/epoch": step / 1000,
            "train/tokens": step * 4096,
            "_step": step,
            "_timestamp": Raw(f"{1.7 + step / 1e9:.16f}e+09"),
            "_runtime": step / 100,
        }
        names = [*row]
        chance.shuffle(names)
        row = {name: row[name] for name in names}
        yield row_record(row, step=step)
        yield summary_record({"_runtime": row["_runtime"]})
        yield summary_record(row)


SECTIONS = {"wandb": long, "wandb_many": many, "wandb_log": reading}
