"""The points that a chart draws of a metric: all, or the extremes of equal parts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bridges.pipeline.key_rules import with_key_rules
from bridges.stream.clock import clocked
from bridges.stream.model import Run
from bridges.views.charts.lines import FEWEST_POINTS, Line, Lines, extremes, lines_of
from tests.support import read_bytes, state


def line(count: int) -> Line:
    values = np.arange(count, dtype=np.float64)
    return Line("loss", count, values, values, values, values)


def test_few_points_are_all_kept() -> None:
    kept = line(10)
    assert kept.thinned(10) is kept


@pytest.mark.parametrize("count", [101, 1000, 12_345])
def test_ends_and_extremes_are_kept(count: int) -> None:
    values = np.sin(np.arange(count) / 7)
    values[count // 2], values[count // 3] = 50.0, -50.0
    at = extremes(values, 100)
    assert len(at) <= 100
    assert (np.diff(at) > 0).all()
    assert {0, count - 1, count // 2, count // 3} <= {*at.tolist()}


def test_values_that_are_not_finite_hide_no_extreme() -> None:
    values = np.full(1000, math.nan)
    values[500], values[501], values[502] = 1.0, -1.0, math.inf
    at = extremes(values, 20)
    assert {500, 501} <= {*at.tolist()}
    assert len(extremes(np.full(1000, math.nan), 20)) <= 20


def test_a_page_keeps_to_its_budget() -> None:
    lines = Lines(budget=3_000)
    for _ in range(20):
        lines.add(iter([line(2_500)]))
    assert sum(len(one) for run in lines.runs for one in run) <= 3_000
    assert {one.points for run in lines.runs for one in run} == {2_500}
    assert {(one.step[0], one.step[-1]) for run in lines.runs for one in run} == {(0, 2_499)}
    for _ in range(100):  # a line keeps its shape however many there are
        lines.add(iter([line(2_500)]))
    assert min(len(one) for run in lines.runs for one in run) > FEWEST_POINTS // 2


def test_runs_above_the_limit_have_no_charts() -> None:
    lines = Lines(budget=3_000, limit=6_000)
    for _ in range(200):
        lines.add(iter([line(2_500), line(1)]))
    assert 0 < lines.charted < 200
    assert lines.points == 200 * 2_501
    assert {len(run) for run in lines.runs[: lines.charted]} == {2}
    assert [[one.points for one in run] for run in lines.runs[lines.charted :]] == [[1]] * (
        200 - lines.charted
    )
    assert sum(len(one) for run in lines.runs[: lines.charted] for one in run) <= 6_000


def test_the_first_run_is_charted_whatever_its_size() -> None:
    lines = Lines(budget=100, limit=100)
    lines.add(iter([line(100)] * 10))
    lines.add(iter([line(2)]))
    assert lines.charted == 1


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [
        {"eval_runtime": 1.0, "loss": 3, "step": 1},
        {"note": "x", "loss": 2.5, "epoch": 1.0, "step": 2},
        {"eval_f1": 0.5, "step": 3},
    ]
    return with_key_rules(read_bytes(tmp_path, state(rows)))


def test_the_lines_of_a_run(run: Run) -> None:
    timed, _, _ = clocked(run, run.stream)
    lines = {one.key: one for one in lines_of(run, timed)}
    assert [*lines] == ["loss", "eval_f1", "eval_runtime"]
    loss = lines["loss"]
    assert (loss.points, loss.value.tolist(), loss.step.tolist()) == (2, [3.0, 2.5], [1.0, 2.0])
    assert math.isnan(loss.epoch[0])
    assert loss.epoch[1] == 1.0
    assert loss.time[0] == 0
    assert loss.time[1] > 0
