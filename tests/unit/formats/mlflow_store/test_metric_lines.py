"""Metric files, against `int` and `float` of the fields of each line."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.formats.mlflow_store import metric_lines
from bridges.formats.mlflow_store.metric_lines import (
    MAX_LINE_BYTES,
    LineKind,
    MetricLines,
    parse_lines,
)

Point = tuple[int, float, int]
DTYPES = [np.dtype(np.int64), np.dtype(np.float64), np.dtype(np.int64)]
TIME = 1_600_000_000_123


def by_hand(lines: list[str]) -> tuple[list[Point], list[int]]:
    """The points of whole lines, and the numbers of the others, blank ones included."""
    points, others = [], []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        try:
            step = int(fields[2]) if len(fields) > 2 else 0
            point = int(fields[0]), float(fields[1]), step
            np.array([point[0], step], np.int64)
            points.append(point)
        except (ValueError, IndexError, OverflowError):
            others.append(number)
    has_steps = any(len(line.split()) > 2 for number, line in enumerate(lines, 1)
                    if number not in others)  # fmt: skip
    if not has_steps and all(0 <= time < 10**11 for time, _, _ in points):
        points = [(time * 1000, value, step) for time, value, step in points]
    return points, others


def columns(points: list[Point]) -> tuple[bytes, bytes, bytes]:
    times, values, steps = zip(*points, strict=True) if points else ((), (), ())
    return (
        np.array(times, np.int64).tobytes(),
        np.array(values, np.float64).tobytes(),
        np.array(steps, np.int64).tobytes(),
    )


def found(lines: MetricLines) -> tuple[bytes, bytes, bytes]:
    assert [each.dtype for each in (lines.time, lines.value, lines.step)] == DTYPES
    return lines.time.tobytes(), lines.value.tobytes(), lines.step.tobytes()


integers = st.one_of(
    st.integers(0, 10**4),
    st.integers(-(2**63) - 2, 2**63 + 2),
    st.integers(TIME, TIME + 10**6),
    st.integers(2**64 - 2, 2**64 + 2),
).map(str)
numbers = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.floats(0, 3).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["nan", "inf", "-inf", "NaN", "-Infinity", "-0", "-0.0", "1e400", "1E5", "+1", ".5", "1_0"]
    ),
    st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,30})?(e-?[0-9]{1,3})?", fullmatch=True),
)
plain = st.builds("{} {} {}".format, integers, numbers, integers)
odd = st.one_of(
    st.builds("{} {}".format, integers, numbers),
    st.builds("{} {} {} set abc".format, integers, numbers, integers),
    st.builds("{}  {} {}".format, integers, numbers, integers),
    st.sampled_from(
        [
            "",
            " ",
            "1",
            "1 2 3.0",
            "1.5 2 3",
            "a b c",
            "1 tensor(0.5) 3",
            "\0\0",
            "1,2 3 4",
            "[1] 2 3",
        ]
    ),
    st.text('0123456789 .,-+eE[]{}"naif', max_size=12),
)


@given(
    st.lists(st.one_of(plain, plain, plain, odd), max_size=30),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(1, 200), max_size=8),
)
def test_lines_are_read_as_by_hand(lines: list[str], end: str, sizes: list[int]) -> None:
    data = "".join(line + end for line in lines).encode()
    points, others = by_hand(lines)
    parsed = parse_lines(pieces(data, sizes))
    assert found(parsed) == columns(points)
    odd_lines = [
        parsed.odd[kind] for kind in (LineKind.DAMAGED, LineKind.BLANK) if kind in parsed.odd
    ]
    assert sum(each.count for each in odd_lines) == len(others)
    assert {number for each in odd_lines for number in each.first} <= {*others}


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@given(st.lists(st.builds("{} {} {}".format, st.integers(0, TIME), st.floats().map(str),
                          st.integers(-5, 2**60)), min_size=4, max_size=60))  # fmt: skip
def test_lines_of_mlflow_are_parsed_together(lines: list[str]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_lines, "FEW_BYTES", 0)
        patch.setattr(metric_lines, "parse_point", None)  # the way line by line
        assert found(parse_lines([data])) == columns(by_hand(lines)[0])


def test_line_numbers_count_on_across_pieces() -> None:
    sound = f"{TIME} 0.5 1\n".encode() * 6
    parsed = parse_lines([sound, sound + b"x\n" + sound[:-3], b"\n", sound, b"\ny 1 2"])
    assert {kind: str(numbers) for kind, numbers in parsed.odd.items()} == {
        LineKind.DAMAGED: "line 13",
        LineKind.BLANK: "line 26",
        LineKind.CUT: "line 27",
    }


def test_the_rest_of_an_endless_line_is_left_out() -> None:
    endless = (b"x" * 2**17 for _ in range(100))
    parsed = parse_lines(
        piece for part in ((f"{TIME} 0.5 1 ".encode(),), endless, (b"\n",)) for piece in part
    )
    assert found(parsed) == columns([(TIME, 0.5, 1)])
    assert MAX_LINE_BYTES < 100 * 2**17
    assert [*parsed.odd] == [LineKind.FURTHER]


@pytest.mark.parametrize(
    ("data", "points", "kinds"),
    [
        (f"{TIME} 0.5 1", [(TIME, 0.5, 1)], [LineKind.UNENDED]),
        (f"{TIME} 0.5", [], [LineKind.CUT]),
        ("1600000000 0.5\n1600000001 0.", [(1600000000000, 0.5, 0)], [LineKind.CUT]),
        (f"{TIME} 0.5\n", [(TIME, 0.5, 0)], []),
        ("5 0.5\n5 0.5 1\n", [(5, 0.5, 0), (5, 0.5, 1)], []),
    ],
)
def test_last_lines_and_lines_of_two_fields(
    data: str, points: list[Point], kinds: list[LineKind]
) -> None:
    parsed = parse_lines([data.encode()])
    assert found(parsed) == columns(points)
    assert [*parsed.odd] == kinds
