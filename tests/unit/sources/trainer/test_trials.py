"""Trials of a search: told by what lies where, and called by their own directories."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import bridges
from bridges.sources.options import ReadOptions
from bridges.sources.trainer.run_directory import RunDirectorySource
from bridges.stream.model import Run
from tests.support import DATA
from tests.unit.sources.trainer.test_run_directory import HISTORY, put, read


def trial(folder: Path, number: int, rows: int = 6, **fields: Any) -> None:
    """The checkpoints of a trial in that directory, and its root state two above if asked for."""
    more = {"trial_params": {"lr": number / 10}, "is_hyper_param_search": True, **fields}
    history = [{**row, "loss": 1.0 + number} for row in HISTORY]
    for count in (rows - 2, rows):
        put(folder / f"checkpoint-{count}", history[:count], **more)


def root(folder: Path, number: int, **fields: Any) -> None:
    """The state of a trial in the directory of its search."""
    more = {"trial_params": {"lr": number / 10}, "is_hyper_param_search": True, **fields}
    put(folder, [{**row, "loss": 1.0 + number} for row in HISTORY], **more)


def paths(runs: list[Run]) -> list[str]:
    return sorted(run.path for run in runs)


def test_trials_of_any_name_are_in_one_group(tmp_path: Path) -> None:
    for number in range(3):
        trial(tmp_path / "search" / f"lr{number}-bs8", number)
    runs = read(tmp_path)
    assert paths(runs) == ["search/lr0-bs8", "search/lr1-bs8", "search/lr2-bs8"]
    assert [run.trial_params for run in runs] == [{"lr": 0.0}, {"lr": 0.1}, {"lr": 0.2}]


def test_the_root_state_is_the_last_trial(tmp_path: Path) -> None:
    trial(tmp_path / "search" / "only", 1)
    assert paths(read(tmp_path)) == ["only"]  # nothing tells that it is one of a search
    root(tmp_path / "search", 1)
    (run,) = read(tmp_path)
    assert (run.path, len(run.stream)) == ("search/only", 8)
    assert run.source == str(tmp_path / "search" / "trainer_state.json")


def test_a_trial_name_tells_its_directory(tmp_path: Path) -> None:
    trial(tmp_path / "search" / "deep" / "first", 1, trial_name="deep/first")
    trial(tmp_path / "other" / "second", 2, trial_name="another name")
    runs = {run.trial_name: run for run in read(tmp_path)}
    assert (runs["deep/first"].group, runs["deep/first"].name) == ("search", "deep/first")
    assert (runs["another name"].group, runs["another name"].name) == (None, "second")


@pytest.mark.parametrize("name", ["run-0", "run-a1b2c_00003", "run-3xk29z"])
def test_the_names_that_transformers_gives(tmp_path: Path, name: str) -> None:
    """The number of optuna, the identifiers of ray and W&B."""
    trial(tmp_path / "out" / name, 1)
    assert paths(read(tmp_path)) == [f"out/{name}"]


def test_a_trial_whose_checkpoints_are_gone_stays_in_its_group(tmp_path: Path) -> None:
    trial(tmp_path / "search" / "a", 0)
    root(tmp_path / "search", 1, trial_name="b")
    assert paths(read(tmp_path)) == ["search/a", "search/b"]
    root(tmp_path / "search", 1)
    assert paths(read(tmp_path)) == ["search/a", "search/search"]


def test_the_states_of_two_searches_are_no_trials_of_one(tmp_path: Path) -> None:
    for number, name in enumerate(("first", "second")):
        root(tmp_path / "exps" / name, number)
    assert paths(read(tmp_path)) == ["first", "second"]


def test_runs_without_trial_params_are_no_trials(tmp_path: Path) -> None:
    for number in (0, 1):
        rows = [{**row, "loss": 1.0 + number} for row in HISTORY]
        put(tmp_path / "exps" / f"run-{number}" / "checkpoint-8", rows)
    runs = read(tmp_path)
    assert paths(runs) == ["run-0", "run-1"]
    assert [run.group for run in runs] == [None, None]


def test_searches_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for number, place in enumerate(("a", "b")):
        trial(tmp_path / place / "out" / "run-0", number)
    assert paths(read(tmp_path)) == ["a/out/run-0", "b/out/run-0"]


def test_a_search_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 1):
        trial(tmp_path / "search" / f"t{number}", number)
    monkeypatch.chdir(tmp_path / "search")
    assert paths(read(".")) == paths(read("t*")) == ["search/t0", "search/t1"]


RAY = DATA / "faults" / "ray2"


def test_a_search_of_ray_tune(tmp_path: Path) -> None:
    """Its checkpoints lie in directories of Ray's own; the next save changes no name."""
    shutil.copytree(RAY, tmp_path / "ray")
    (search,) = (tmp_path / "ray").iterdir()
    first, second = sorted(folder.name for folder in search.iterdir())
    for gone in ("checkpoint_000001", "nothing"):
        runs = read(tmp_path / "ray")
        assert [(run.group, run.name) for run in runs] == [
            (search.name, first),
            (search.name, second),
        ]
        assert parts_of_ray(tmp_path / "ray") == [run.path for run in runs]
        for trial in (first, second):
            shutil.rmtree(search / trial / gone, ignore_errors=True)
    (alone,) = read(search / first)
    assert (alone.group, alone.name) == (search.name, first)


def parts_of_ray(place: Path) -> list[str]:
    source = RunDirectorySource()
    bundles = source.split(str(place))
    return [run.path for bundle in bundles for run in source.read_part(bundle, ReadOptions())]


def test_a_checkpoint_of_ray_tune_has_the_name_of_its_trial() -> None:
    (file, *_) = sorted(RAY.rglob("trainer_state.json"))
    (run,) = bridges.read(file)
    assert run.name == file.parents[2].name
