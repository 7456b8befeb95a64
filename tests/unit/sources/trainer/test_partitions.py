"""A tree read in parts gives the same runs as read in one go."""

from __future__ import annotations

import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from bridges.errors import SourceError
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.clock import apply_clock
from bridges.stream.identity import prefix_digest
from bridges.stream.model import Run
from tests.support import GROUNDTRUTH, needs_groundtruth
from tests.unit.sources.times.test_clock_sources import history, put_events, put_state


def parts(place: Path) -> list[Run]:
    """The runs of all bundles, read in any order, each sent to another process and back."""
    source = RunDirectorySource()
    found = source.split(str(place))
    random.Random(7).shuffle(found)
    sent = pickle.loads(pickle.dumps(found))
    return [run for bundle in sent for run in source.read_part(bundle, ReadOptions())]


def told(run: Run) -> tuple[Any, ...]:
    """What makes a run: the same in whatever way it was read."""
    _, clock, _ = apply_clock(run.stream, run.key_rules, run.evidence)
    codes = [finding.code for finding in run.findings if finding.code != "files-ignored"]
    digest = prefix_digest(run.stream, len(run.stream))
    return run.path, run.source, digest, clock, run.saves, dict(run.params), codes


def check(place: Path, count: int) -> None:
    whole = list(RunDirectorySource().read(str(place), ReadOptions()))
    assert len(whole) == count
    key = lambda run: run.source  # noqa: E731
    found = sorted(parts(place), key=key)
    assert [*map(told, found)] == [*map(told, sorted(whole, key=key))]


@needs_groundtruth
def test_all_of_the_ground_truth(tmp_path: Path) -> None:
    """Sixteen scenarios, one of them a search with two trials; without the copies of their states,
    and of the two that begin with the same rows one: forks between directories are not told.
    """
    for place in GROUNDTRUTH.iterdir():
        if place.is_dir() and place.name != "crash_resume_same_run":
            shutil.copytree(place, tmp_path / place.name, ignore=lambda *_: ["states"])
    check(tmp_path, 17)


def trial(folder: Path, rate: float, loss: float) -> None:
    rows = history(4, loss)
    put_state(folder, rows, trial_params={"learning_rate": rate})


def test_trials_of_a_search_know_each_other(tmp_path: Path) -> None:
    """No root state is left, and their names prove nothing: only the other trial does."""
    for loss, search in enumerate(("a/search", "b/search"), 5):
        for rate in (0.1, 0.2, 0.3):
            trial(tmp_path / search / f"rate{rate}" / "checkpoint-4", rate, loss + rate)
    check(tmp_path, 6)
    assert {run.group for run in parts(tmp_path)} == {"a/search", "b/search"}


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    for number, place in enumerate(("a/out", "b/out", "c/x")):
        put_state(tmp_path / place, history(4, loss=5.0 + number))
    check(tmp_path, 3)
    assert {run.name for run in parts(tmp_path)} == {"a/out", "b/out", "x"}


def test_event_files_and_settings_come_along(tmp_path: Path) -> None:
    for number in range(3):
        rows = history(4, loss=5.0 + number)
        put_state(tmp_path / f"out{number}" / "checkpoint-4", rows)
        (tmp_path / f"out{number}" / "config.json").write_text(f'{{"size": {number}}}')
        put_events(tmp_path / "logs" / str(number), rows)
    put_state(tmp_path / "out1" / "inner", history(4, loss=9.0))
    (tmp_path / "out2" / "notes.txt").write_text("not read")
    check(tmp_path, 4)
    assert len(RunDirectorySource().split(str(tmp_path))) == 3  # what lies within is one part
    ignored = [
        finding.count
        for run in parts(tmp_path)
        for finding in run.findings
        if finding.code == "files-ignored"
    ]
    assert ignored == [1]


def test_an_empty_tree_has_no_parts(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no trainer_state\\.json below it"):
        RunDirectorySource().split(str(tmp_path))
