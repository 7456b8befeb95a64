"""The rows of event files: consecutive points of one step, each key once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard import rows
from bridges.sources.tensorboard.source import TensorBoardSource
from bridges.stream.model import Run
from tests.event_files import START, scalars, tagged, text, write


def read(folder: Path) -> Run:
    (run,) = TensorBoardSource().read(str(folder), ReadOptions())
    return run


def one_by_one(codes: list[int], steps: list[int]) -> list[bool]:
    first, seen, last = [], set[int](), None
    for code, step in zip(codes, steps, strict=True):
        begins = step != last or code in seen
        seen = {code} if begins else {*seen, code}
        first.append(begins)
        last = step
    return first


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40))
def test_a_row_ends_where_the_step_or_a_key_comes_again(points: list[tuple[int, int]]) -> None:
    codes, steps = (list(column) for column in zip(*points, strict=True))
    code = np.array(codes, np.int64)
    by_code = np.argsort(code, kind="stable")
    starts, row = rows._rows(code, np.array(steps, np.int64), by_code)
    is_first = one_by_one(codes, steps)
    assert starts.tolist() == np.flatnonzero(is_first).tolist()
    assert row.tolist() == (np.cumsum(is_first) - 1).tolist()


def test_consecutive_events_of_a_step_are_one_row(tmp_path: Path) -> None:
    events = [
        scalars(START + 1, 0, loss=1, acc=2),
        tagged(START + 2, 0, "lr", 3),
        tagged(START + 3, 0, "loss", 4),
        tagged(START + 4, 5, "loss", 5),
        tagged(START + 5, 0, "loss", 6),
    ]
    write(tmp_path / "run", events)
    run = read(tmp_path / "run")
    assert [*run.stream] == [
        {"loss": 1.0, "acc": 2.0, "lr": 3.0, "step": 0},
        {"loss": 4.0, "step": 0},
        {"loss": 5.0, "step": 5},
        {"loss": 6.0, "step": 0},
    ]
    assert run.stream.time is not None
    assert (run.stream.time - round(START * 1e6)).tolist() == [
        10**6,
        3 * 10**6,
        4 * 10**6,
        5 * 10**6,
    ]
    (lr,) = (series for series in run.stream.series if series.key == "lr")
    assert (run.stream.times(lr) - round(START * 1e6)).tolist() == [2 * 10**6]


def test_steps_and_values_are_kept_bit_by_bit(tmp_path: Path) -> None:
    values = [float("nan"), float("inf"), float("-inf"), -0.0, 1e-45, 3.4e38]
    steps = [-3, 0, 2**40, -(2**62), 7, 7]
    write(
        tmp_path / "run",
        [
            tagged(START + at, s, "x", v)
            for at, (s, v) in enumerate(zip(steps, values, strict=True))
        ],
    )
    run = read(tmp_path / "run")
    (series,) = run.stream.series
    expected = np.array(values, np.float32).astype(np.float64)
    assert run.stream.step[series.rows].tolist() == steps
    assert series.values.tobytes() == expected.tobytes()


def test_rows_have_own_times_only_where_points_differ(tmp_path: Path) -> None:
    write(tmp_path / "run", [scalars(START + 1, 0, loss=1, acc=2), scalars(START + 2, 1, loss=3)])
    assert all(series.time is None for series in read(tmp_path / "run").stream.series)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_invalid_times_are_zero_and_counted(tmp_path: Path, bad: float) -> None:
    write(tmp_path / "run", [tagged(START + 1, 0, "loss", 1), tagged(bad, 1, "loss", 2)])
    run = read(tmp_path / "run")
    assert run.stream.time is not None
    assert run.stream.time.tolist() == [round((START + 1) * 1e6), 0]
    assert [each.code for each in run.findings] == [
        "event-format",
        "times-out-of-range",
        "event-end-unknown",
    ]


def test_texts_are_values_of_their_rows(tmp_path: Path) -> None:
    events = [
        tagged(START + 1, 0, "loss", 1),
        text(START + 1, 0, "args", "{}"),
        text(START + 2, 4, "args", "two"),
    ]
    write(tmp_path / "run", events)
    assert [*read(tmp_path / "run").stream] == [
        {"loss": 1.0, "args": "{}", "step": 0},
        {"args": "two", "step": 4},
    ]
