"""A table is folded into the event files of the same training, or stands apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.sources.tables.fold import fit_of, fold_all
from bridges.stream.model import MetricStream, RowKind, Run, Series

Points = Mapping[str, Sequence[tuple[int, float]]]


def run_of(name: str, points: Points, start: int | None = None, **fields: Any) -> Run:
    """A run with a row for each step; with times, a second apart, if it has a `start`."""
    steps = sorted({step for each in points.values() for step, _ in each})
    row = {step: at for at, step in enumerate(steps)}
    series = tuple(
        Series(key, np.array([row[step] for step, _ in each]), np.array([v for _, v in each]))
        for key, each in points.items()
    )
    time = None if start is None else start + np.arange(len(steps)) * 1_000_000
    kind = np.full(len(steps), RowKind.CUSTOM, np.uint8)
    stream = MetricStream(np.array(steps, np.int64), kind, series, time)
    return Run(name, stream, name, key_style="tags", **fields)


def single(points: Points, offset: int = 0) -> Points:
    """The points as event files hold them: 32 bits."""
    return {
        key: [(step + offset, float(np.float32(value))) for step, value in each]
        for key, each in points.items()
    }


def values(run: Run) -> dict[str, list[tuple[int, float]]]:
    """The steps and values of each key."""
    stream, found = run.stream, {}
    for key in stream.keys:
        rows, numbers = stream.column(key)
        found[key] = list(zip(stream.step[rows].tolist(), numbers.tolist(), strict=True))
    return found


TABLE: Points = {"loss": [(1, 0.1), (2, 0.2)], "acc": [(2, 0.3)]}


def test_equal_cells_keep_their_64_bits_and_the_clock_of_the_events() -> None:
    (run,) = fold_all([run_of("events", single(TABLE), 5_000_000)], [run_of("table", TABLE)])
    assert values(run) == {"loss": [(1, 0.1), (2, 0.2)], "acc": [(2, 0.3)]}
    assert run.stream.time is not None
    assert (run.name, run.stream.time.tolist()) == ("events", [5_000_000, 6_000_000])
    (note,) = (each for each in run.findings if each.code == "table-folded")
    assert "3 of its cells equal the events, 0 have fewer digits, 0 are only" in note.message


def test_cells_with_fewer_digits_give_way() -> None:
    events = {"loss": [(1, 1.18945), (2, 0.123456)], "lr": [(1, 0.00012345)]}
    table = {"loss": [(1, 1.1894), (2, 0.1235)], "lr": [(1, 0.00012)]}
    (run,) = fold_all([run_of("events", single(events), 0)], [run_of("table", table)])
    assert values(run) == {key: list(each) for key, each in single(events).items()}


def test_steps_of_the_events_win() -> None:
    events = run_of("events", single(TABLE, 1), 0)
    (run,) = fold_all([events], [run_of("table", {**TABLE, "lr": [(1, 0.5), (2, 0.25)]})])
    assert values(run)["lr"] == [(2, 0.5), (3, 0.25)]
    assert values(run)["loss"] == [(2, 0.1), (3, 0.2)]


def test_rows_of_the_table_alone_are_added_in_their_place() -> None:
    table = {"loss": [(0, 9.0), (1, 0.1), (2, 0.2), (5, 7.0)], "acc": [(2, 0.3)]}
    (run,) = fold_all([run_of("events", single(TABLE), 10)], [run_of("table", table)])
    assert values(run)["loss"] == table["loss"]
    assert run.stream.step.tolist() == [0, 1, 2, 5]
    assert run.stream.time is not None
    assert run.stream.time.tolist() == [10, 10, 1_000_010, 1_000_010]


def test_another_value_keeps_them_apart() -> None:
    table = run_of("table", {**TABLE, "acc": [(2, 0.31)]})
    runs = list(fold_all([run_of("events", single(TABLE), 0)], [table]))
    assert [run.name for run in runs] == ["events", "table"]
    apart = {"loss": [(1, 0.1)], "other": [(1, 2.0)]}
    assert fit_of(run_of("a", apart).stream, run_of("b", {"x": [(1, 2.0)]}).stream) is None


def test_a_table_belongs_to_the_training_with_its_values() -> None:
    first = run_of("logs", single({"loss": [(1, 0.5), (2, 0.25)]}), 0)
    second = run_of("logs/2", single(TABLE), 9)
    one, two = fold_all([first, second], [run_of("table", TABLE, params={"lr": 1})])
    assert ("table-folded" in {each.code for each in one.findings}, two.params) == (
        False,
        {"lr": 1},
    )
    assert values(two)["loss"] == [(1, 0.1), (2, 0.2)]


def test_of_several_events_at_a_step_the_last_that_agrees_counts() -> None:
    steps = np.array([1, 1, 1, 2])
    loss = Series("loss", np.arange(4), np.array([0.9, 0.1, 0.7, 0.2], np.float32).astype(float))
    kind = np.full(4, RowKind.CUSTOM, np.uint8)
    stream = MetricStream(steps, kind, (loss,), np.arange(4) * 10)
    (run,) = fold_all(
        [Run("events", stream, "events", key_style="tags")],
        [run_of("table", {"loss": [(1, 0.1), (2, 0.2)], "lr": [(1, 5.0)]})],
    )
    assert run.stream.column("loss")[1].tolist() == [
        float(np.float32(0.9)),
        0.1,
        loss.values[2],
        0.2,
    ]
    assert run.stream.column("lr")[0].tolist() == [1]


def test_catboost_names_its_directories() -> None:
    events = run_of("learn", single({"RMSE": [(0, 0.1), (1, 0.2)]}), 0)
    (run,) = fold_all([events], [run_of("catboost_info", {"learn/RMSE": [(0, 0.1), (1, 0.2)]})])
    assert values(run) == {"RMSE": [(0, 0.1), (1, 0.2)]}


def test_an_export_by_bridges_is_left_alone() -> None:
    events = run_of("events", single(TABLE), 0, key="0" * 32)
    assert len(list(fold_all([events], [run_of("table", TABLE)]))) == 2


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.dictionaries(st.integers(0, 9), st.floats(width=32), min_size=1),
        min_size=1,
    ),
    st.sampled_from([0, 1]),
    st.data(),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_point_is_lost(
    points: dict[str, dict[int, float]], offset: int, data: st.DataObject
) -> None:
    """Any part of a training as events and any part of it as a table: all points are in the run."""
    everything = {key: sorted(each.items()) for key, each in points.items()}
    events = {
        key: [each for each in some if data.draw(st.booleans())] for key, some in everything.items()
    }
    events = {key: some for key, some in events.items() if some}
    if not events:
        return
    first = run_of("events", single(events, offset), 0)
    table = run_of("table", everything)
    found = list(fold_all([first], [table]))
    fit = fit_of(first.stream, table.stream)
    assert fit is not None
    assert len(found) == 1
    expected = {
        key: [(step + fit.offset, repr(value)) for step, value in each]
        for key, each in everything.items()
    }
    if fit.offset == offset:
        read = {
            key: [(step, repr(value)) for step, value in each]
            for key, each in values(found[0]).items()
        }
        assert read == expected
