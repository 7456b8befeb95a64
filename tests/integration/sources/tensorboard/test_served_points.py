"""A real TensorBoard shows the points of event files as they are read, and those of their export.

`tensorboard` drops superseded points by step; the rule of the reader gives the same points.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from tensorboardX import SummaryWriter

import bridges
from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.model import Run
from tests.bounds import until
from tests.event_files import START, losses, restart, version, write
from tests.integration.exporters.tensorboard.support import Point, last_of_steps, show
from tests.integration.exporters.tensorboard.test_server import Server, tensorboard

pytestmark = pytest.mark.slow
LATER = START + 1000


def read(location: Path) -> dict[str, Run]:
    return {run.name: run for run in TensorBoardSource().read(str(location), ReadOptions())}


def points(run: Run) -> dict[str, list[Point]]:
    """The points of a run, one for each step, as the default loader shows them."""
    found = {}
    for series in run.stream.numbers:
        steps = run.stream.step[series.rows].tolist()
        shown = [*map(show, series.values.tolist())]
        found[series.key] = last_of_steps([*zip(steps, shown, strict=True)])
    return found


def is_shown(server: Server, run: str, want: dict[str, list[Point]]) -> bool:
    have = server.scalars(run)
    return {tag: sorted(found) for tag, found in have.items()} == {
        tag: sorted(found) for tag, found in want.items()
    }


def write_logs(logs: Path) -> None:
    write(logs / "resumed", losses(START, range(10)))
    write(logs / "resumed", losses(LATER, [3, 103, 104]), at=LATER)
    write(logs / "purged", [restart(START, 0), *losses(START, range(10))])
    events = [version(LATER), restart(LATER, 3), *losses(LATER, [3, 4])]
    write(logs / "purged", events, at=LATER)
    with SummaryWriter(str(logs / "written")) as writer:
        for step in range(20):
            writer.add_scalar("loss", 1 / (step + 1), step)
            writer.add_scalar("Policy/Beta rate", step, step)


def test_tensorboard_shows_what_is_read_and_what_is_exported(tmp_path: Path) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    write_logs(logs)
    runs = read(logs)
    assert [step for step, _ in points(runs["resumed"])["loss"]] == [0, 1, 2, 3, 103, 104]
    assert [step for step, _ in points(runs["purged"])["loss"]] == [0, 1, 2, 3, 4]
    report = bridges.export(logs, to="tensorboard", logdir=out)
    assert {each.status for each in report.runs} == {"exported"}
    for logdir in (logs, out):
        with tensorboard(logdir, tmp_path) as server:
            assert server.is_fast
            for name, run in runs.items():
                until(partial(is_shown, server, name, points(run)))


def test_tensorboard_shows_the_directories_of_a_joined_run(tmp_path: Path) -> None:
    logs, out = tmp_path / "logs", tmp_path / "out"
    for number, split in enumerate(("train", "validation")):
        name = f"events.out.tfevents.1.host.7.{number}.v2"
        write(logs / "a" / split, losses(START + number / 10, range(6)), name=name)
    (run,) = read(logs).values()
    bridges.export(logs, to="tensorboard", logdir=out)
    found = points(run)
    with tensorboard(out, tmp_path) as server:
        for split in ("train", "validation"):
            want = {"loss": found[f"{split}/loss"]}
            until(partial(is_shown, server, f"a/{split}", want))
