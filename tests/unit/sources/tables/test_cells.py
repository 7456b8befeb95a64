"""Cells: numbers exactly as Python reads them, blanks apart from NaN, rows of any shape."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.sources.tables import cells as module
from bridges.sources.tables import numbers
from bridges.sources.tables.cells import Cells, blocks
from bridges.sources.tables.numbers import number_of

Odd = list[tuple[int, list[str]]]
INF = float("inf")
WAYS = ("arrow", "json", "rows")
HALFWAY = (
    "9007199254740993.0",  # between two integers
    "9007199254740993.00000000000000000000000000000000000000000001",
    "1.00000000000000011102230246251565404236316680908203125",
    "1.00000000000000011102230246251565404236316680908203126",
    "2.4703282292062327e-324",  # half of the smallest number
    "2.4703282292062328e-324",
    "2.2250738585072011e-308",
    "1.7976931348623158e308",
    "1.7976931348623159e308",
    "8.41e-21",
    "0.000000000000000000000000000000000000000000000000000000000000000000000000000001e78",
)


def use(way: str, patch: pytest.MonkeyPatch) -> None:
    """Read blocks in one way only: by Arrow or JSON, or row by row."""
    arrow = numbers._arrow
    if way == "rows":
        patch.setattr(numbers.NumberParser, "parse", lambda self, block: None)
    else:
        patch.setattr(numbers, "_arrow", lambda size: arrow(1 << 62) if way == "arrow" else None)


def read(
    text: str, names: list[str], separator: str = ",", missing: tuple[str, ...] = ()
) -> tuple[Cells, dict[str, dict[int, Any]], Odd]:
    """The cells of a text below its header, by name and row; the rows of other widths."""
    odd: Odd = []
    cells = Cells(names, separator, missing, lambda line, row: odd.append((line, row)), names)
    cells.add(text.encode(), 2)
    found: dict[str, dict[int, Any]] = {name: {} for name in names}
    for part in cells.columns.series()[0]:
        found[part.key] |= dict(zip(part.rows.tolist(), part.values.tolist(), strict=True))
    return cells, found, odd


def test_numbers_keep_their_type_and_value() -> None:
    text = "1,0.1,1e-05\n2,-0.0,7\n3,1E400,12345678901234567\n"
    cells, found, odd = read(text, ["a", "b", "c"])
    assert found["a"] == {0: 1, 1: 2, 2: 3}
    assert found["b"] == {0: 0.1, 1: 0.0, 2: math.inf}
    assert math.copysign(1, found["b"][1]) == -1
    assert found["c"] == {0: 1e-05, 1: 7, 2: 12345678901234567}
    assert {type(value) for value in found["c"].values()} == {int, float}
    assert (odd, cells.lines.tolist()) == ([], [2, 3, 4])


def test_a_blank_cell_is_not_nan() -> None:
    _, found, _ = read(",1\nnan,2\n,3\nNaN,\n", ["a", "b"])
    assert [*found["a"]] == [1, 3]
    assert all(map(math.isnan, found["a"].values()))
    assert found["b"] == {0: 1, 1: 2, 2: 3}


@pytest.mark.parametrize("word", ["inf", "-inf", "Infinity", "-Infinity", "+inf", "nan", "NAN"])
def test_words_that_are_numbers(word: str) -> None:
    for text in (f"1,{word}\n", f"x,{word}\n"):  # the fast and the slow way
        _, found, _ = read(text, ["a", "b"])
        assert found["b"][0] == float(word) or math.isnan(float(word))


@pytest.mark.parametrize(
    "cell", ["+1", "007", ".5", "1.", "1_000", "0x1A", "--", "1,5", "١", "1e", "e5", "nul", "[1]"]
)
def test_unusual_cells_are_numbers_only_if_every_reader_says_so(cell: str) -> None:
    _, found, _ = read(f"{cell};1\n", ["a", "b"], ";")
    expected = {"+1": 1, "007": 7, ".5": 0.5, "1.": 1.0}.get(cell, cell)
    assert found["a"] == {0: expected}


def test_text_truth_and_quotes() -> None:
    text = 'a,True\n"b, ""c""",false\n"d\ne",1\n'
    cells, found, _ = read(text, ["x", "y"])
    assert found["x"] == {0: "a", 1: 'b, "c"', 2: "d\ne"}
    assert found["y"] == {0: True, 1: False, 2: 1}
    assert cells.lines.tolist() == [2, 3, 4]


def test_json_in_a_cell_is_text() -> None:
    _, found, _ = read('"[1, 2]",1\n"{""a"": 1}",2\n"a\\nb",3\nnull,4\n', ["a", "b"])
    assert found["a"] == {0: "[1, 2]", 1: '{"a": 1}', 2: "a\\nb", 3: "null"}


def test_numbers_beside_quoted_texts_are_converted_by_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(module, "number_of", lambda text: seen.append(text))
    _, found, _ = read('1,"a, b",0.5\n-2,c,\n,"""d""",1e999\n', ["a", "b", "c"])
    assert found == {"a": {0: 1, 1: -2}, "b": {0: "a, b", 1: "c", 2: '"d"'}, "c": {0: 0.5, 2: INF}}
    assert seen == ["a, b", "c", '"d"']


@pytest.mark.parametrize("way", WAYS[:2])
def test_full_columns_share_their_rows(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(way, monkeypatch)
    monkeypatch.setattr(module, "BLOCK_BYTES", 8)
    monkeypatch.setattr(module, "BLOCK_ROWS", 1)
    cells, _, _ = read("", ["a", "b", "c"])
    cells.add(b"1,0.5,\n2,1.5,1\n3,2.5,2\n", 2)
    first, second, third = cells.columns.series()[0]
    assert first.rows is second.rows
    assert (first.rows.tolist(), third.rows.tolist()) == ([0, 1, 2], [1, 2])


@pytest.mark.parametrize("missing", ["-", "-1", "NA"])
@pytest.mark.parametrize("separator", [",", "\t"])
def test_missing_cells_may_look_like_numbers(missing: str, separator: str) -> None:
    text = f"{missing},1\n2,{missing}\n".replace(",", separator)
    _, found, _ = read(text, ["a", "b"], separator, (missing,))
    assert found == {"a": {1: 2}, "b": {0: 1}}


def test_missing_words_are_blank() -> None:
    _, found, _ = read("NA,1\n2,NA\n", ["a", "b"], missing=("NA",))
    assert found == {"a": {1: 2}, "b": {0: 1}}
    _, found, _ = read("NA,1\nx,NA\n", ["a", "b"], missing=("NA",))
    assert found == {"a": {1: "x"}, "b": {0: 1}}


def test_rows_of_another_width_are_odd_and_blank_lines_are_not() -> None:
    cells, found, odd = read("1,2\n3\n\n4,5,6\n7,8\n", ["a", "b"])
    assert odd == [(3, ["3"]), (5, ["4", "5", "6"])]
    assert (found["a"], cells.lines.tolist()) == ({0: 1, 1: 7}, [2, 6])


def test_widths_that_even_out_are_odd() -> None:
    _, found, odd = read("1,2\n3\n4,5,6\n", ["a", "b"])
    assert (found["a"], [line for line, _ in odd]) == ({0: 1}, [3, 4])


def test_a_repeated_header_is_odd() -> None:
    _, found, odd = read("1,2\na,b\n3,4\n", ["a", "b"])
    assert (found["a"], odd) == ({0: 1, 1: 3}, [(3, ["a", "b"])])


def test_blocks_end_between_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 8)
    monkeypatch.setattr(module, "BLOCK_ROWS", 1)
    text = b'1,2\n3,4\n"a\nb\nc",5\n6,7\n8,9\n'
    assert [*blocks(text)] == [b"1,2\n3,4\n", b'"a\nb\nc",5\n', b"6,7\n8,9\n"]
    cells, found, _ = read(text.decode(), ["a", "b"])
    assert found["a"] == {0: 1, 1: 3, 2: "a\nb\nc", 3: 6, 4: 8}
    assert cells.lines.tolist() == [2, 3, 4, 7, 8]


NUMBERS = st.one_of(
    st.floats().map(repr),
    st.floats().map("{:.6g}".format),
    st.floats(-1, 1).map("{:.18e}".format),
    st.integers().map(str),
    st.integers(-(2**64), 2**64).map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(HALFWAY),
)
ODD_CELLS = st.one_of(
    st.sampled_from(["", " ", "NA", "nan", "inf", "True", "1.0e3", " 2 ", "+4", "x", "1e999", "-"]),
    st.sampled_from(
        ["1_000", "0x10", "nan(1)", "Infinity", "-0", "5.", ".5", "1d5", "1.5.2", "-x"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6),
)

WORDS = st.sampled_from(["a", "b, c", "v1.2", "2024-01-01", "True", "é", "", "NA"])


@pytest.mark.parametrize("way", WAYS)
@given(st.data())
def test_all_ways_give_what_python_reads(way: str, data: st.DataObject) -> None:
    """Each cell is what `number_of` makes of it, whatever lies around it."""
    kinds = st.sampled_from([NUMBERS, NUMBERS | st.just(""), NUMBERS | ODD_CELLS, WORDS])
    columns = data.draw(st.lists(kinds, min_size=1, max_size=4))
    width = len(columns)
    names = ["a", "b", "c", "d"][:width]
    row = st.tuples(*columns) | st.sampled_from([tuple(names)])
    rows = data.draw(st.lists(row, min_size=1, max_size=20))
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", data.draw(st.integers(1, 64)))
        patch.setattr(module, "BLOCK_ROWS", 1)
        use(way, patch)
        _, found, _ = read(file.getvalue(), names, missing=("NA",))
    kept = [row for row in rows if [cell.strip() for cell in row] != names]
    for at, name in enumerate(names):
        expected = {
            row: _value(cells[at])
            for row, cells in enumerate(kept)
            if _value(cells[at]) is not None
        }
        assert repr(dict(sorted(found[name].items()))) == repr(expected)


def _value(cell: str) -> object:
    text = cell.strip()
    if text in ("", "NA"):
        return None
    number = number_of(text)
    if isinstance(number, int) and not isinstance(number, bool) and not -(2**63) <= number < 2**63:
        return float(number)
    return text if number is None else number


@pytest.mark.parametrize("way", WAYS)
@given(st.lists(st.floats(width=64), min_size=1, max_size=50))
def test_floats_are_the_nearest_ones(way: str, values: list[float]) -> None:
    text = "".join(f"{value!r},1\n" for value in values)
    cells = Cells(["a", "b"], ",", (), lambda line, row: None)
    with pytest.MonkeyPatch.context() as patch:
        use(way, patch)
        cells.add(text.encode(), 1)
    first, expected = cells.columns.series()[0][0], np.array(values)
    is_nan = np.isnan(expected)
    assert (np.isnan(first.values) == is_nan).all()
    assert (first.values[~is_nan].view(np.int64) == expected[~is_nan].view(np.int64)).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", HALFWAY)
def test_halfway_cases_are_rounded_to_even(
    way: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(way, monkeypatch)
    _, found, _ = read(f"{text},-{text}\n", ["a", "b"])
    assert found == {"a": {0: float(text)}, "b": {0: -float(text)}}


@pytest.mark.parametrize("way", WAYS)
def test_blocks_of_many_kinds_of_numbers(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(way, monkeypatch)
    random = np.random.default_rng(5)
    values = random.standard_normal((9_000, 3)) * 10.0 ** random.integers(-30, 30, (9_000, 3))
    rows = [
        [str(row), repr(a), f"{b:.6g}", "" if row % 3 else "0.5", f"{c:.17e}"]
        for row, (a, b, c) in enumerate(values.tolist())
    ]
    _, found, _ = read("".join(",".join(row) + "\n" for row in rows), [*"sabec"])
    for at, name in enumerate("sabec"):
        expected = {row: number_of(cells[at]) for row, cells in enumerate(rows) if cells[at]}
        assert repr(dict(sorted(found[name].items()))) == repr(expected)


def test_a_stray_quote_costs_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    monkeypatch.setattr(module, "BLOCK_ROWS", 1)
    text = Counted(b'1,"2\n' + b"3,4\n" * 1_000)
    assert [*blocks(text)] == [text]
    assert text.counted < 3 * len(text)


class Counted(bytes):
    """Bytes that know how many of them were searched for quotes."""

    counted = 0

    def count(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        self.counted += (len(self) if end is None else end) - start
        return super().count(sub, start, end)
