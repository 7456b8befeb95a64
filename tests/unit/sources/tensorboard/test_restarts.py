"""Session starts supersede the points that TensorBoard's EventAccumulator drops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bridges.sources.options import ReadOptions
from bridges.sources.tensorboard.source import TensorBoardSource
from tests.event_files import START, restart, tagged, write

Points = dict[str, list[tuple[int, float]]]


def by_accumulator(folder: Path) -> Points:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found = {
        tag: [(each.step, each.value) for each in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    return {tag: points for tag, points in found.items() if points}


def by_source(folder: Path) -> Points:
    (run,) = TensorBoardSource().read(str(folder), ReadOptions(runs="one"))
    return {
        series.key: [
            *zip(run.stream.step[series.rows].tolist(), series.values.tolist(), strict=True)
        ]
        for series in run.stream.numbers
    }


def write_sessions(folder: Path, sessions: Sequence[tuple[int, Sequence[tuple[str, int]]]]) -> None:
    """A file for each session, which begins with a START and its step."""
    for number, (step, points) in enumerate(sessions):
        at = START + 1000 * number
        events = [
            tagged(at + index + 1, where, tag, 100 * number + index)
            for index, (tag, where) in enumerate(points)
        ]
        write(folder, [restart(at, step), *events], at=at)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),
            st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 8)), min_size=1, max_size=6),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_points_are_those_of_the_accumulator(
    tmp_path_factory: pytest.TempPathFactory,
    sessions: list[tuple[int, list[tuple[str, int]]]],
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    write_sessions(folder, sessions)
    assert by_source(folder) == by_accumulator(folder)


def test_a_session_start_without_points_counts(tmp_path: Path) -> None:
    write_sessions(tmp_path, [(0, [("a", 1), ("a", 2), ("a", 3)]), (2, [])])
    write(tmp_path, [tagged(START + 2001, 5, "a", 7)], at=START + 2000)
    assert by_source(tmp_path) == by_accumulator(tmp_path) == {"a": [(1, 0.0), (5, 7.0)]}
