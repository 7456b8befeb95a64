"""A tree is read in units: the first run is given before the last is read, with the same runs."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bridges.errors import TreeError
from bridges.sources import run_directory
from bridges.sources.base import ReadOptions
from bridges.sources.discovery import discover
from bridges.sources.run_directory import RunDirectorySource
from bridges.sources.units import units
from bridges.stream.model import Run
from tests.support import state
from tests.unit.test_clock_sources import history, put_events
from tests.unit.test_run_directory import HISTORY, put, read


def at(number: int) -> list[dict[str, float]]:
    return [{**row, "loss": row["loss"] + number} for row in HISTORY]


def count(place: Path) -> int:
    """How many units there are; one is none."""
    return len(units(str(place), discover(str(place))))


@pytest.mark.parametrize("ahead", [1, 2])
def test_the_first_run_is_given_before_the_last_is_read(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few small runs are read ahead, by their rows."""
    monkeypatch.setattr(run_directory, "ROWS_AHEAD", ahead * len(HISTORY))
    for number in range(5):
        put(tmp_path / f"r{number}", at(number))
    opened: list[str] = []
    plain = run_directory._Reader.run

    def run(self: run_directory._Reader, location: str) -> Run:
        opened.append(location)
        return plain(self, location)

    monkeypatch.setattr(run_directory._Reader, "run", run)
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
