"""A large run is compared with its target in pieces: the result is that of comparing all points.

The borders of pieces are made to fall everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.exporters.base import Points, Recorded
from bridges.exporters.memory import MemoryExporter
from bridges.pipeline import compare as module
from bridges.pipeline.compare import compare, expected_points
from bridges.pipeline.options import LayoutOptions
from bridges.pipeline.target import Target
from bridges.stream.layout import Layout
from bridges.stream.model import MetricStream, RowKind, Run, Series

Point = tuple[int, float, int]  # step, value, time (ms)
ROWS, PIECE = 12, 4
EVERY = [(step, step / 8, 1000 + step) for step in range(ROWS)]


class InPieces(dict[str, Points]):
    """Stored points, read by step in pieces of some size."""

    size = PIECE

    def pieces(self, tag: str) -> Iterator[Points]:
        points = self[tag]
        order = np.argsort(points.step, kind="stable")
        for at in range(0, len(order) + 1, self.size):
            part = order[at : at + self.size]
            yield Points(points.step[part], points.value[part], points.time[part])


class ReadOnlyInPieces(InPieces):
    def get(self, *_: object) -> Points:
        raise AssertionError("all points are read")


@pytest.fixture(autouse=True, scope="module")
def _every_run_is_large() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART", 2)
        yield


def layout_of(points: Sequence[Point]) -> Layout:
    """The layout of one key in this order, for a target without limits."""
    step, value, time = zip(*points, strict=True)
    rows = np.arange(len(points))
    kind = np.full(len(points), RowKind.CUSTOM, np.uint8)
    stream = MetricStream(
        np.array(step), kind, (Series("loss", rows, np.array(value)),), np.array(time) * 1000
    )
    target = Target(MemoryExporter(), LayoutOptions())
    run = Run("run", stream, "x", key_style="tags", append_only=False)
    return target.lay_out(run, target.identity(run))


def stored(points: Sequence[Point]) -> Points:
    step, value, time = zip(*points, strict=True) if points else ((), (), ())
    return Points(np.array(step, np.int64), np.array(value, float), np.array(time, float) / 1000)


def codes(layout: Layout, points: dict[str, Points]) -> list[tuple[str, int]]:
    found = compare(layout, Recorded(points), expected_points(layout, MemoryExporter()))
    return [(finding.code, finding.count) for finding in found]


def test_equal_points_are_read_once_in_pieces() -> None:
    layout = layout_of(EVERY)
    assert codes(layout, ReadOnlyInPieces(loss=stored(EVERY))) == []


@pytest.mark.parametrize("at", range(ROWS))
@pytest.mark.parametrize("change", ["step", "value", "time", "missing", "doubled"])
def test_one_other_point_at_any_place_is_found(at: int, change: str) -> None:
    layout, points = layout_of(EVERY), [*EVERY]
    step, value, time = points[at]
    if change == "missing":
        del points[at]
    elif change == "doubled":
        points.insert(at, points[at])
    else:
        others = {"step": (99, value, time), "value": (step, 9.0, time), "time": (step, value, 9)}
        points[at] = others[change]
    lacks = [("missing-points", 1)] * (change != "doubled")
    also = [("unexpected-points", 1)] * (change != "missing")
    assert codes(layout, InPieces(loss=stored(points))) == lacks + also


@pytest.mark.parametrize("at", range(ROWS - 1))
@pytest.mark.parametrize("steps", [range(ROWS), [0] * ROWS, [*range(ROWS)][::-1]])
def test_another_order_of_the_same_points_is_equal(at: int, steps: Sequence[int]) -> None:
    """Of the steps, too, which is another order than by step."""
    points = [(step, value, time) for step, (_, value, time) in zip(steps, EVERY, strict=True)]
    layout = layout_of(points)
    points[at], points[at + 1] = points[at + 1], points[at]
    assert codes(layout, InPieces(loss=stored(points))) == []


values = st.sampled_from([0.0, 1.0, float("nan"), float("inf")])
some = st.lists(st.tuples(st.integers(0, 3), values, st.integers(0, 2)), min_size=3, max_size=9)


@given(some, some, st.integers(1, 4), st.booleans())
def test_pieces_give_the_result_of_all_points(
    mine: list[Point], others: list[Point], size: int, is_same: bool
) -> None:
    if is_same:
        others = sorted(mine, key=repr)
    layout, there = layout_of(mine), InPieces(loss=stored(others))
    there.size = size
    found = codes(layout, there)
    assert found == codes(layout, {"loss": stored(others)})
    assert (found == []) == (Counter(map(repr, mine)) == Counter(map(repr, others)))


def test_a_tag_that_only_one_side_has_is_found() -> None:
    layout = layout_of(EVERY)
    assert codes(layout, InPieces()) == [("missing-points", ROWS)]
    there = InPieces(loss=stored(EVERY), other=stored(EVERY[:2]))
    assert codes(layout, there) == [("unexpected-points", 2)]
