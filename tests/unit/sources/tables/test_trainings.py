"""Several trainings in one table, resumes, and steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.errors import SourceError
from bridges.sources.tables.trainings import trainings_of
from tests.unit.sources.tables.tables import KERAS, codes, one, points, put, runs


def split(*steps: int) -> list[tuple[list[int], list[int]]]:
    """The steps of each training, and its superseded ones."""
    step = np.array(steps, np.int64)
    return [
        (step[part.rows].tolist(), step[part.superseded].tolist()) for part in trainings_of(step)
    ]


def test_a_step_that_falls_to_the_beginning_is_another_training() -> None:
    assert split(0, 1, 2, 0, 1, 0) == [([0, 1, 2], []), ([0, 1], []), ([0], [])]
    assert split(5, 6, 3, 4) == [([5, 6], []), ([3, 4], [])]
    assert split(1, 1, 2, 2) == [([1, 1, 2, 2], [])]


def test_a_step_that_falls_into_the_middle_is_a_resume() -> None:
    assert split(0, 1, 2, 3, 2, 3, 4) == [([0, 1, 2, 3, 4], [2, 3])]
    assert split(0, 1, 2, 3, 2, 3, 1, 2) == [([0, 1, 2], [1, 2, 3, 2, 3])]
    assert split(0, 5, 3, 4, 0, 2, 1) == [([0, 3, 4], [5]), ([0, 1], [2])]


def test_a_repeated_step_is_a_resume_if_the_time_falls() -> None:
    step, elapsed = np.array([1, 2, 3, 3, 4, 1, 1]), np.array([5.0, 9, 14, 5, 9, 5, 4])
    found = [
        (step[part.rows].tolist(), step[part.superseded].tolist())
        for part in trainings_of(step, elapsed)
    ]
    assert found == [([1, 2, 3, 4], [3]), ([1], []), ([1], [])]
    assert [len(part.rows) for part in trainings_of(step)] == [5, 2]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_each_row_is_in_one_training_and_steps_never_fall(steps: list[int]) -> None:
    step = np.array(steps, np.int64)
    found = trainings_of(step)
    rows = [row for part in found for row in (*part.rows.tolist(), *part.superseded.tolist())]
    assert sorted(rows) == list(range(len(steps)))
    assert all((np.diff(step[part.rows]) >= 0).all() for part in found)


def test_each_training_of_a_table_is_a_run(tmp_path: Path) -> None:
    body = KERAS.partition("\n")[2]
    path = put(tmp_path / "log.csv", KERAS + body.replace("0.5", "0.25") + body[: len(body) // 2])
    first, second, third = runs(path)
    assert [run.name for run in (first, second, third)] == ["log", "log/2", "log/3"]
    assert points(second)["accuracy"] == [(0, 0.25), (1, 0.75)]
    assert len({run.source for run in (first, second, third)}) == 3
    assert "table-several-trainings" in codes(first)


def test_a_resume_keeps_the_later_rows(tmp_path: Path) -> None:
    path = put(tmp_path / "m.csv", "step,loss\n1,9\n2,8\n3,7\n2,6\n3,5\n4,4\n")
    run = one(path)
    assert points(run) == {"loss": [(1, 9), (2, 6), (3, 5), (4, 4)]}
    (found,) = (each for each in run.findings if each.code == "table-rows-superseded")
    assert (found.where, found.count) == ("lines 3, 4", 2)
    assert "steps 2 to 3" in found.message


def test_trainings_can_be_one_run_and_superseded_rows_be_kept(tmp_path: Path) -> None:
    path = put(tmp_path / "m.csv", "step,loss\n1,9\n2,8\n3,7\n2,6\n3,5\n1,4\n2,3\n")
    assert [points(run)["loss"] for run in runs(path)] == [
        [(1, 9), (2, 6), (3, 5)],
        [(1, 4), (2, 3)],
    ]
    for chosen in ({"runs": "one"}, {"one_run": True}, {"runs": "directory"}):
        assert points(one(path, **chosen)) == {"loss": [(1, 4), (2, 3)]}
    kept = {run.name: points(run)["loss"] for run in runs(path, superseded="keep")}
    assert kept["m/superseded"] == [(2, 8), (3, 7)]
    assert len(kept) == 3


def test_whole_floats_are_steps_and_others_are_not(tmp_path: Path) -> None:
    assert one(put(tmp_path / "a.csv", "step,a\n1.0,5\n2e2,6\n")).stream.step.tolist() == [1, 200]
    for cell in ("1.5", "nan", "x", "1e300", "True"):
        path = put(tmp_path / "b.csv", f"step,a\n0,4\n{cell},5\n1,6\n")
        with pytest.raises(SourceError, match=r"line 3, column 'step': found .*a whole number"):
            runs(path)
        run = one(path, salvage=True)
        assert points(run) == {"a": [(0, 4), (1, 6)]}
        assert "table-rows-damaged" in codes(run)


def test_a_row_without_a_step_has_that_of_the_row_before(tmp_path: Path) -> None:
    run = one(put(tmp_path / "a.csv", "step,a\n3,1\n,2\n5,3\n"))
    assert points(run) == {"a": [(3, 1), (3, 2), (5, 3)]}
    assert "step-missing" in codes(run)


def test_without_a_step_column_rows_are_counted(tmp_path: Path) -> None:
    run = one(put(tmp_path / "a.csv", "loss,acc\n1,2\n3,4\n"))
    assert points(run) == {"loss": [(0, 1), (1, 3)], "acc": [(0, 2), (1, 4)]}
    assert "table-without-steps" in codes(run)
