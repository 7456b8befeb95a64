"""Tables beside event files: one run of both, if they are the log of one training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.pipeline.read_runs import source_of
from bridges.sources.base import Divides
from bridges.sources.options import ReadOptions
from bridges.sources.place import sources_at
from bridges.stream.model import Run
from tests.event_files import START, tagged, write
from tests.support import SHARED
from tests.unit.sources.tables.tables import LIGHTNING, codes, put

CORPUS = SHARED / "corpus_trackers"
SB3 = "time/total_timesteps,time/time_elapsed,loss,lr\n10,1,0.1,0.5\n20,3,0.2,0.25\n"


def read(folder: Path, **options: Any) -> list[Run]:
    """The runs of a tree, by the sources that read it."""
    return list(source_of(str(folder), None).read(str(folder), ReadOptions(**options)))


def events(folder: Path, *points: tuple[int, float], tag: str = "loss") -> None:
    """An event file with these points, a second apart."""
    write(folder, [tagged(START + n, step, tag, value) for n, (step, value) in enumerate(points)])


def test_a_table_of_the_same_training_is_one_run_with_the_events(tmp_path: Path) -> None:
    events(tmp_path / "PPO_1", (10, 0.1), (20, 0.2))
    put(tmp_path / "PPO_1/progress.csv", SB3)
    (run,) = read(tmp_path)
    assert sources_at(str(tmp_path)) == ("tensorboard",)
    assert "table-folded" in codes(run)
    assert run.stream.column("loss")[1].tolist() == [0.1, 0.2]
    assert run.stream.column("lr")[1].tolist() == [0.5, 0.25]
    assert run.stream.time is not None
    assert run.stream.time.tolist() == [round(START * 1e6), round((START + 1) * 1e6)]
    assert str(tmp_path / "PPO_1/progress.csv") in {file.location for file in run.provenance}


def test_a_table_with_other_values_is_a_run_of_its_own(tmp_path: Path) -> None:
    events(tmp_path / "a", (10, 0.5), (20, 0.25))
    put(tmp_path / "a/progress.csv", SB3)
    first, second = read(tmp_path)
    assert (first.identity[0], "table-format" in codes(second)) == ("tensorboard", True)
    assert second.stream.column("loss")[1].tolist() == [0.1, 0.2]


def test_tables_elsewhere_in_the_tree_are_read_as_tables(tmp_path: Path) -> None:
    events(tmp_path / "a", (10, 0.5), (20, 0.25))
    put(tmp_path / "lightning_logs/version_0/metrics.csv", LIGHTNING)
    assert sources_at(str(tmp_path)) == ("tensorboard", "tables")
    assert [run.name for run in read(tmp_path)] == ["a", "lightning_logs/version_0"]


def test_a_damaged_table_does_not_stop_its_events(tmp_path: Path) -> None:
    events(tmp_path / "a", (10, 0.1), (20, 0.2))
    put(tmp_path / "a/progress.csv", SB3 + "1,2\n")
    (run,) = read(tmp_path)
    (found,) = (each for each in run.findings if each.code == "table-unreadable")
    assert found.fails
    assert "progress.csv: line 4: found 2 cells; expected 4" in found.message
    (run,) = read(tmp_path, salvage=True)
    assert {"table-folded", "table-rows-damaged"} <= codes(run)


def test_catboost_has_its_events_in_directories_of_its_tables(tmp_path: Path) -> None:
    events(tmp_path / "catboost_info/learn", (0, 1.5), (1, 1.25), tag="RMSE")
    events(tmp_path / "catboost_info/test", (0, 1.75), (1, 1.5), tag="RMSE")
    put(tmp_path / "catboost_info/learn_error.tsv", "iter\tRMSE\n0\t1.5\n1\t1.25\n")
    put(tmp_path / "catboost_info/test_error.tsv", "iter\tRMSE\n0\t1.75\n1\t1.5\n")
    (run,) = read(tmp_path)
    assert {*run.stream.keys} == {"learn/RMSE", "test/RMSE"}
    assert "table-folded" in codes(run)


needs_both = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"the corpus of real logs is not at {CORPUS}"
)


@needs_both
@pytest.mark.parametrize(
    ("repository", "exact", "fewer", "alone"),
    [
        ("gbencheikh__RL_Job_Shop_Problem", 291, 0, 49),
        ("Abonia1__YOLOv8-Fire-and-Smoke-Detection", 125, 125, 75),
        ("0425Ning__AdvTabDDPM", 204, 0, 0),
        ("Dope4ever__MBTI", 364, 0, 0),
    ],
)
def test_real_pairs(tmp_path: Path, repository: str, exact: int, fewer: int, alone: int) -> None:
    for kind in ("events", "tables"):
        shutil.copytree(CORPUS / kind / repository, tmp_path / "x", dirs_exist_ok=True)
    (run,) = read(tmp_path)
    (found,) = (each for each in run.findings if each.code == "table-folded")
    expected = (
        f"{exact} of its cells equal the events, {fewer} have fewer digits, {alone} are only in"
    )
    assert expected in found.message
    assert ("its steps are 1 less" in found.message) is repository.startswith("Abonia1")
    (alone_run,) = read_events(CORPUS / "events" / repository)
    for key in alone_run.stream.keys:
        own, other = run.stream.column(key)[1], alone_run.stream.column(key)[1]
        assert np.array_equal(own.astype(np.float32), other.astype(np.float32), equal_nan=True)
    assert run.stream.points == alone_run.stream.points + alone
    assert {*run.stream.step.tolist()} == {*alone_run.stream.step.tolist()}


def read_events(folder: Path) -> list[Run]:
    """The runs of the event files alone."""
    return list(source_of(str(folder), "tensorboard").read(str(folder), ReadOptions()))


def test_named_tables_are_read_without_their_events(tmp_path: Path) -> None:
    events(tmp_path / "PPO_1", (10, 0.1), (20, 0.2))
    put(tmp_path / "PPO_1/progress.csv", SB3)
    put(tmp_path / "lightning_logs/version_0/metrics.csv", LIGHTNING)
    events(tmp_path / "m/catboost_info/learn", (0, 1.5), (1, 1.25), tag="RMSE")
    put(tmp_path / "m/catboost_info/learn_error.tsv", "iter\tRMSE\n0\t1.5\n1\t1.25\n")
    assert len(read(tmp_path)) == 3
    source = source_of(str(tmp_path), "tables")
    assert source.claims(str(tmp_path))
    found = {run.name: run for run in source.read(str(tmp_path), ReadOptions())}
    assert {*found} == {"PPO_1", "m/catboost_info", "lightning_logs/version_0"}
    assert found["PPO_1"].stream.column("loss")[1].tolist() == [0.1, 0.2]
    assert not any("table-folded" in codes(run) for run in found.values())
    assert isinstance(source, Divides)
    parts = source.split(str(tmp_path))
    assert {run.name for part in parts for run in source.read_part(part, ReadOptions())} == {*found}


@pytest.mark.parametrize("is_file", [False, True])
def test_a_table_alone_says_that_event_files_lie_beside_it(tmp_path: Path, is_file: bool) -> None:
    events(tmp_path / "PPO_1", (10, 0.1), (20, 0.2))
    path = Path(put(tmp_path / "PPO_1/progress.csv", SB3))
    place = path if is_file else tmp_path
    (run,) = source_of(str(place), "tables").read(str(place), ReadOptions())
    (note,) = (each for each in run.findings if each.code == "table-beside-events")
    assert (note.where, note.fails) == (str(path.parent), False)
    assert "export their directory without --source" in note.message
    next(path.parent.glob("*tfevents*")).unlink()
    (run,) = source_of(str(place), "tables").read(str(place), ReadOptions())
    assert "table-beside-events" not in codes(run)


def test_catboost_tables_alone_have_event_files_inside(tmp_path: Path) -> None:
    events(tmp_path / "catboost_info/learn", (0, 1.5), (1, 1.25), tag="RMSE")
    put(tmp_path / "catboost_info/learn_error.tsv", "iter\tRMSE\n0\t1.5\n1\t1.25\n")
    (run,) = source_of(str(tmp_path), "tables").read(str(tmp_path), ReadOptions())
    assert "table-beside-events" in codes(run)
