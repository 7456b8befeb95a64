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
from bridges.sources.tables.cells import Cells, blocks, number_of

Odd = list[tuple[int, list[str]]]


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
    text = b'1,2\n3,4\n"a\nb\nc",5\n6,7\n8,9\n'
    assert [*blocks(text)] == [b"1,2\n3,4\n", b'"a\nb\nc",5\n', b"6,7\n8,9\n"]
    cells, found, _ = read(text.decode(), ["a", "b"])
    assert found["a"] == {0: 1, 1: 3, 2: "a\nb\nc", 3: 6, 4: 8}
    assert cells.lines.tolist() == [2, 3, 4, 7, 8]


ANY_CELL = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", " ", "NA", "nan", "inf", "True", "1.0e3", " 2 ", "+4", "x", "1e999", "-"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=6),
)


@given(st.lists(st.lists(ANY_CELL, min_size=3, max_size=3), min_size=1, max_size=20), st.data())
def test_all_ways_give_what_python_reads(rows: list[list[str]], data: st.DataObject) -> None:
    """Each cell is what `number_of` makes of it, whatever lies around it."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    names = ["a", "b", "c"]
    size = module.BLOCK_BYTES
    module.BLOCK_BYTES = data.draw(st.integers(1, 64))
    try:
        _, found, _ = read(file.getvalue(), names, missing=("NA",))
    finally:
        module.BLOCK_BYTES = size
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
    if isinstance(number, int) and not isinstance(number, bool) and abs(number) >= 2**63:
        return float(number)
    return text if number is None else number


@given(st.lists(st.floats(width=64), min_size=1, max_size=50))
def test_floats_are_the_nearest_ones(values: list[float]) -> None:
    text = "".join(f"{value!r},1\n" for value in values)
    cells = Cells(["a", "b"], ",", (), lambda line, row: None)
    cells.add(text.encode(), 1)
    first, expected = cells.columns.series()[0][0], np.array(values)
    is_nan = np.isnan(expected)
    assert (np.isnan(first.values) == is_nan).all()
    assert (first.values[~is_nan].view(np.int64) == expected[~is_nan].view(np.int64)).all()
