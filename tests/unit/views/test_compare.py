"""Two runs compared, row by row and value by value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridges.pipeline.key_rules import with_key_rules
from bridges.stream.model import Run
from bridges.views.compare import by_step, compare
from bridges.views.params import ABSENT
from tests.support import read_bytes, state

ROWS: list[dict[str, Any]] = [
    {"loss": 3.0, "epoch": 0.5, "step": 1},
    {"loss": math.nan, "note": "x", "list": [1, 2], "step": 2},
    {"eval_loss": 2, "eval_runtime": 1.5, "step": 2},
    {"loss": 1.0, "step": 3},
]


def made(folder: Path, rows: list[dict[str, Any]], **params: Any) -> Run:
    run = with_key_rules(read_bytes(folder, state(rows)))
    return Run(**{**vars(run), "params": params})


def changed(row: int, **values: Any) -> list[dict[str, Any]]:
    return [{**each, **values} if at == row else each for at, each in enumerate(ROWS)]


def test_equal_runs(tmp_path: Path) -> None:
    a = made(tmp_path, ROWS, lr=1, nan=math.nan)
    b = made(tmp_path, changed(2, eval_loss=2.0), lr=1.0, nan=math.nan)
    found = compare(a, b)
    assert found.is_equal
    assert (found.rows, found.first, found.params) == (0, None, {})


@pytest.mark.parametrize(
    ("row", "values"),
    [(0, {"loss": 3.0000000000000004}), (0, {"step": 0}), (1, {"loss": 1.0}), (1, {"note": "y"}),
     (1, {"list": [1, 3]}), (1, {"note": 1}), (2, {"more": 0}), (3, {"loss": None}),
     (3, {"loss": math.inf})],
)  # fmt: skip
def test_the_first_row_that_differs(tmp_path: Path, row: int, values: dict[str, Any]) -> None:
    found = compare(made(tmp_path, ROWS), made(tmp_path, changed(row, **values)))
    assert (found.rows, found.timed_only) == (1, 0)
    assert found.first
    assert found.first.row == row
    assert found.first.b is not None
    assert {key: found.first.b[key] for key in values} == values
    assert set(found.first.b) == {"step", *values}


def test_a_difference_of_durations_comes_last(tmp_path: Path) -> None:
    slow = changed(2, eval_runtime=9.0)
    found = compare(made(tmp_path, ROWS), made(tmp_path, slow))
    assert (found.rows, found.timed_only) == (1, 1)
    assert found.first
    assert found.first.a == {"step": 2, "eval_runtime": 1.5}
    slow[3] = {"loss": 4.0, "step": 3}
    found = compare(made(tmp_path, ROWS), made(tmp_path, slow))
    assert (found.rows, found.timed_only) == (2, 1)
    assert found.first
    assert found.first.row == 3
    ignoring = compare(made(tmp_path, ROWS), made(tmp_path, slow), ["*_runtime", "loss"])
    assert ignoring.is_equal


def test_a_shorter_run(tmp_path: Path) -> None:
    found = compare(made(tmp_path, ROWS[:2]), made(tmp_path, ROWS))
    assert found.rows == 2
    assert found.first
    assert (found.first.row, found.first.a) == (2, None)
    assert found.first.b == {"step": 2, "eval_loss": 2, "eval_runtime": 1.5}
    assert not compare(made(tmp_path, ROWS), made(tmp_path, [])).is_equal


def test_params_of_either_run(tmp_path: Path) -> None:
    a, b = (
        made(tmp_path, ROWS, lr=1, old=None, same=[1]),
        made(tmp_path, ROWS, lr=2, new=3, same=[1]),
    )
    assert compare(a, b).params == {"lr": (1, 2), "new": (ABSENT, 3), "old": (None, ABSENT)}
    assert compare(a, b, ["lr", "old", "n*"]).is_equal


def test_metrics_of_either_run(tmp_path: Path) -> None:
    found = compare(made(tmp_path, ROWS[:1]), made(tmp_path, ROWS)).metrics
    assert [*found] == ["loss", "eval_loss", "eval_runtime"]
    assert found["eval_loss"][0] is None
    loss, other = found["loss"]
    assert loss
    assert other
    assert (loss.last, other.last, other.best) == (3.0, 1.0, 1.0)


def test_a_metric_over_steps(tmp_path: Path) -> None:
    rows = [{"loss": float(step), "step": step} for step in (0, 1, 5, 6, 9)]
    run = made(tmp_path, [*rows, {"loss": math.nan, "step": 3}])
    assert by_step(run, "loss", np.linspace(0, 10, 6)) == [0.5, None, 5.0, 6.0, 9.0]
