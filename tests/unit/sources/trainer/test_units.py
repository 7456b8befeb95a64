"""A tree is read in units: the first run is given before the last is read, with the same runs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridges.cli.console import Progress
from bridges.cli.main import run as bridge
from bridges.errors import TreeError
from bridges.exporters.base import ExistingRun
from bridges.exporters.tensorboard.exporter import TensorBoardExporter
from bridges.sources.options import ReadOptions
from bridges.sources.trainer import read_tree
from bridges.sources.trainer.discovery import discover
from bridges.sources.trainer.read_units import read_units
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.layout import Layout
from bridges.stream.model import Run
from tests.support import state
from tests.unit.sources.times.test_clock_sources import history, put_events
from tests.unit.sources.trainer.test_run_directory import HISTORY, put, read


def at(number: int) -> list[dict[str, float]]:
    return [{**row, "loss": row["loss"] + number} for row in HISTORY]


def count(place: Path) -> int:
    """How many units there are; one is none."""
    return len(read_units(str(place), discover(str(place))))


@pytest.mark.parametrize("ahead", [1, 2])
def test_the_first_run_is_given_before_the_last_is_read(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few small runs are read ahead, by their rows."""
    monkeypatch.setattr(read_tree, "MIN_ROWS_AHEAD", ahead * len(HISTORY))
    for number in range(5):
        put(tmp_path / f"r{number}", at(number))
    opened: list[str] = []
    plain = read_tree._Reader.run

    def run(self: read_tree._Reader, location: str) -> Run:
        opened.append(location)
        return plain(self, location)

    monkeypatch.setattr(read_tree._Reader, "run", run)
    runs = RunDirectorySource().read(str(tmp_path), ReadOptions())
    assert next(runs).name == "r0"
    assert {Path(location).parent.name for location in opened} == {f"r{n}" for n in range(ahead)}
    assert [run.name for run in runs] == ["r1", "r2", "r3", "r4"]


@pytest.mark.parametrize("packed", [False, True])
def test_directories_with_saves_of_one_run_are_one_unit(tmp_path: Path, packed: bool) -> None:
    """A run that was resumed in another directory, the one of them written otherwise."""
    put(tmp_path / "a", HISTORY[:4])
    put(tmp_path / "b", at(1))
    (tmp_path / "c").mkdir()
    long = state([dict(reversed(row.items())) for row in HISTORY]) + b" " * 20_000
    if packed:
        (tmp_path / "c" / "trainer_state.json.gz").write_bytes(gzip.compress(long))
    else:
        (tmp_path / "c" / "trainer_state.json").write_bytes(long)
    assert count(tmp_path) == 2
    assert [(run.name, len(run.saves)) for run in read(tmp_path)] == [("c", 2), ("b", 1)]


def test_directories_that_share_event_files_are_one_unit(tmp_path: Path) -> None:
    for number in range(3):
        rows = history(4, loss=5.0 + number)
        put(tmp_path / f"out{number}", rows)
        put_events(tmp_path / "logs" / str(number), rows)
    assert count(tmp_path) == 0
    assert {run.evidence[0].source for run in read(tmp_path)} == {"events"}


def test_what_cannot_be_read_is_told_after_all_units(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / f"r{number}", at(number))
    put(tmp_path / "r0" / "checkpoint-1", HISTORY).write_bytes(b"{")
    put(tmp_path / "r2" / "checkpoint-1", HISTORY).write_bytes(b"")
    runs = RunDirectorySource().read(str(tmp_path), ReadOptions())
    assert [next(runs).name for _ in range(3)] == ["r0", "r1", "r2"]
    with pytest.raises(TreeError) as raised:
        next(runs)
    assert len(raised.value.errors) == 2
    assert count(tmp_path) == 3


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an export of five runs does, in its order; `r3` is interrupted if `stop` lies there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(read_tree, "MIN_ROWS_AHEAD", len(HISTORY))
    for number in range(5):
        put(Path("tree", f"r{number}"), at(number))
    done: list[str] = []
    read, write, advance = read_tree._Reader.run, TensorBoardExporter.write, Progress.advance

    def reads(self: read_tree._Reader, location: str) -> Run:
        name = Path(location).parent.name
        if name == "r3" and Path("stop").exists():
            raise KeyboardInterrupt
        if done[-1:] != [f"read {name}"]:  # once for its rows, once for its values
            done.append(f"read {name}")
        return read(self, location)

    def writes(
        self: TensorBoardExporter,
        layout: Layout,
        seen: Sequence[ExistingRun],
        existing: ExistingRun | None,
    ) -> ExistingRun:
        written = write(self, layout, seen, existing)
        done.append(f"write {written.name}")
        return written

    def advances(self: Progress) -> None:
        advance(self)
        done.append(f"{self.done} of {self.total}")

    monkeypatch.setattr(read_tree._Reader, "run", reads)
    monkeypatch.setattr(TensorBoardExporter, "write", writes)
    monkeypatch.setattr(Progress, "advance", advances)
    return done


def test_a_run_is_written_before_the_next_is_read_and_progress_counts_runs(
    steps: list[str],
) -> None:
    assert bridge(["export", "tree", "--to", "tensorboard", "--logdir", "tb"]) == 0
    expected = [[f"read r{n}", f"write r{n}", f"{n + 1} of {n + 1}"] for n in range(5)]
    assert steps == [step for group in expected for step in group]


def test_an_interrupted_export_keeps_the_runs_before(
    steps: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("stop").touch()
    command = ["export", "tree", "--to", "tensorboard", "--logdir", "tb"]
    assert bridge(command) == 130
    assert "finished runs are kept" in capsys.readouterr().err
    assert sorted(path.name for path in Path("tb").iterdir() if path.is_dir()) == ["r0", "r1", "r2"]
    Path("stop").unlink()
    assert bridge([*command, "--json"]) == 0
    statuses = [run["status"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert statuses == ["unchanged"] * 3 + ["exported"] * 2
