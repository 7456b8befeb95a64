"""A named state gives the run that its directory gives: the same settings, times and results."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.sources.options import ReadOptions
from bridges.sources.trainer import read_tree
from bridges.sources.trainer import state_file as trainer_state
from bridges.sources.trainer.file_cache import _SETTLED, UnchangedFiles
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.clock import apply_clock
from bridges.stream.identity import prefix_digest
from bridges.stream.model import Run
from tests.support import state
from tests.unit.sources.times.test_clock_sources import history, put_events
from tests.unit.sources.trainer.test_run_directory import HISTORY, put, told

OTHER = [{**row, "loss": 9.0} for row in HISTORY]


def content(run: Run) -> tuple[Any, ...]:
    timed, clock, _ = apply_clock(run.stream, run.key_rules, run.evidence)
    times = None if timed.time is None else timed.time.tolist()
    digest = prefix_digest(run.stream, len(run.stream))
    return run.name, run.group, dict(run.params), clock.source, times, digest, run.source


def output(folder: Path) -> list[dict[str, Any]]:
    """An output directory with all that may lie beside: its rows."""
    rows = history(8)
    put(folder / "checkpoint-4", rows[:4])
    put(folder, rows, global_step=8, max_steps=8)
    put_events(folder / "runs" / "now", rows)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 7}))
    (folder / "predict_results.json").write_text(json.dumps({"predict_f1": 0.5}))
    return rows


@pytest.mark.parametrize("place", ["out", "."])
def test_the_file_gives_what_its_directory_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    output(tmp_path / place)
    monkeypatch.chdir(tmp_path)
    (whole,) = bridges.read(tmp_path / place)
    (file,) = bridges.read(tmp_path / place / "trainer_state.json")
    assert content(file) == content(whole)
    assert (file.params["hidden_size"], content(file)[3]) == (7, "events")
    source = RunDirectorySource()
    (bundle,) = source.split(str(tmp_path / place / "trainer_state.json"))
    (part,) = source.read_part(bundle, ReadOptions())
    assert content(part) == content(whole)


def test_a_relative_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output(tmp_path)
    monkeypatch.chdir(tmp_path)
    (file,) = bridges.read("trainer_state.json")
    (whole,) = bridges.read(tmp_path)
    assert content(file)[:-1] == content(whole)[:-1]
    assert file.source == "trainer_state.json"


def test_an_earlier_checkpoint_is_the_shorter_history(tmp_path: Path) -> None:
    rows = output(tmp_path / "out")
    (run,) = bridges.read(tmp_path / "out" / "checkpoint-4" / "trainer_state.json")
    (whole,) = bridges.read(tmp_path / "out")
    assert len(run.stream) == 4 < len(rows)
    assert (run.name, run.params["hidden_size"]) == ("out", 7)
    assert content(run)[4] == content(whole)[4][:4]
    assert not {"results-added", "predictions-kept"} & {*told(run)}


def test_beside_several_runs_the_file_is_read_alone(tmp_path: Path) -> None:
    put(tmp_path / "checkpoint-8", HISTORY)
    file = put(tmp_path / "checkpoint-6", OTHER[:6])
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 7}))
    (run,) = bridges.read(file)
    assert "hidden_size" not in run.params
    assert "beside-left-out" in told(run)


def test_a_folder_of_unrelated_states_has_nothing_beside(tmp_path: Path) -> None:
    for number, rows in enumerate((HISTORY, OTHER)):
        (tmp_path / f"trainer_state ({number}).json").write_bytes(state(rows))
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 7}))
    (run,) = bridges.read(tmp_path / "trainer_state (0).json")
    assert "hidden_size" not in run.params


def test_a_broken_checkpoint_beside_stops_nothing(tmp_path: Path) -> None:
    output(tmp_path / "out")
    (tmp_path / "out" / "checkpoint-4" / "trainer_state.json").write_text("{")
    (run,) = bridges.read(tmp_path / "out" / "trainer_state.json")
    assert run.params["hidden_size"] == 7
    shutil.copy(tmp_path / "out" / "trainer_state.json", tmp_path / "x.json")
    (alone,) = bridges.read(tmp_path / "x.json")
    assert "hidden_size" not in alone.params


def test_standard_input_has_nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output(tmp_path)
    monkeypatch.chdir(tmp_path)
    data = (tmp_path / "trainer_state.json").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    (run,) = bridges.read("-")
    assert ("hidden_size" in run.params, run.evidence) == (False, ())
    assert not {"results-added", "predictions-kept"} & {*told(run)}


def test_many_named_checkpoints_are_each_read_twice_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell expands a pattern; the runs are the same as if each was read alone."""
    rows = history(12)
    files = [put(tmp_path / f"checkpoint-{step}", rows[:step]) for step in range(2, 13)]
    for file in files:  # a file that has just changed is not trusted
        while time.time_ns() - file.stat().st_ctime_ns < 2 * _SETTLED:
            time.sleep(0.01)
    reads: Counter[str] = Counter()
    read = trainer_state.TrainerStateSource.read

    def counted(self: Any, location: str, options: ReadOptions) -> Any:
        reads[location] += 1
        return read(self, location, options)

    monkeypatch.setattr(trainer_state.TrainerStateSource, "read", counted)
    runs = [run for file in files for run in bridges.read(file)]
    assert len(reads) == len(files)
    assert reads.total() < 3 * len(files)
    for file, run in zip(files, runs, strict=True):
        read_tree._FOLDED = UnchangedFiles()
        (alone,) = bridges.read(file)
        assert (content(run), told(run), run.saves) == (content(alone), told(alone), alone.saves)


def test_a_changed_file_beside_is_read_again(tmp_path: Path) -> None:
    rows = history(8)
    file = put(tmp_path, rows)
    for number in range(3):
        other = put(tmp_path / f"checkpoint-{4 + number}", rows[: 4 + number])
        (run,) = bridges.read(file)
        assert len(run.saves) == number + 2
    time.sleep(2 * _SETTLED / 1e9)
    bridges.read(file)
    other.write_bytes(state([{**row, "loss": 9.0} for row in rows[:6]]))
    (run,) = bridges.read(file)
    assert "beside-left-out" in told(run)
