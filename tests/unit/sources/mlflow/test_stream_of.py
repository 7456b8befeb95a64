"""Streams of increasing metrics, which are merged without sorting all points, equal the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.formats.mlflow_store.records import Metric
from bridges.sources.mlflow import runs
from bridges.sources.mlflow.runs import stream_of
from bridges.stream.model import MetricStream


@pytest.fixture(autouse=True, scope="module")
def _merge_short_metrics_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "LONG", 0)
        yield


Clock = list[tuple[int, int]]  # time and step of each point


def metric(key: str, clock: Clock, start: float = 0.0) -> Metric:
    times, steps = zip(*clock, strict=True) if clock else ((), ())
    values = start + np.arange(len(clock), dtype=np.float64)
    return Metric(key, values, np.array(times, np.int64), np.array(steps, np.int64))


def content(stream: MetricStream) -> list[object]:
    assert stream.time is not None
    return [
        *(stream.step.tolist(), stream.kind.tolist(), stream.time.tolist()),
        [(each.key, each.rows.tolist(), each.values.tolist()) for each in stream.series],
    ]


def by_sorting(metrics: Sequence[Metric]) -> tuple[MetricStream, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_stream_of_increasing", lambda metrics: None)
        return stream_of([*metrics])


points = st.tuples(st.integers(0, 5), st.integers(-2, 3))
clocks = st.one_of(
    st.lists(points, max_size=6),
    st.lists(points, max_size=6, unique=True).map(sorted),
    st.just([(0, 0), (1, 1), (2, 2)]),
)


@given(st.dictionaries(st.sampled_from("abcde"), clocks))
def test_both_ways_make_the_same_stream(found: dict[str, Clock]) -> None:
    metrics = [metric(key, clock, ord(key)) for key, clock in found.items()]
    stream, repeats = stream_of([*metrics])
    expected, expected_repeats = by_sorting(metrics)
    assert (content(stream), repeats) == (content(expected), expected_repeats)


@pytest.mark.parametrize(
    ("clock", "is_fast"),
    [
        ([(0, 0), (1, 1)], True),
        ([(0, 0), (0, 1)], True),
        ([(0, 1), (0, 0)], False),
        ([(1, 0), (0, 1)], False),
        ([(0, 0), (0, 0)], False),
    ],
)
def test_only_increasing_metrics_take_the_fast_way(clock: Clock, is_fast: bool) -> None:
    assert (runs._stream_of_increasing([metric("a", clock)]) is not None) == is_fast


def test_metrics_with_the_same_clock_share_their_rows() -> None:
    clock = [(0, 0), (5, 1), (9, 2)]
    stream, _ = stream_of([metric("a", clock), metric("b", [(5, 1)]), metric("c", clock, 7.0)])
    first, second, third = stream.series
    assert np.shares_memory(first.rows, third.rows)
    assert (first.rows.tolist(), second.rows.tolist()) == ([0, 1, 2], [1])


def test_rows_of_one_time_are_sorted_by_step() -> None:
    metrics = [metric("a", [(0, 5), (1, 6)]), metric("b", [(0, 2), (1, 6)])]
    stream, _ = stream_of([*metrics])
    assert stream.step.tolist() == [2, 5, 6]
    assert content(stream) == content(by_sorting(metrics)[0])


def test_short_metrics_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "LONG", 8)
    monkeypatch.setattr(runs, "_stream_of_increasing", None)  # the other way
    stream, _ = stream_of([metric("a", [(0, 0)] * 7), metric("b", [(1, 0)])])
    assert stream.step.tolist() == [0] * 8
