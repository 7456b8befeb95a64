"""CSV files: every value is read back exactly, whatever texts lie around it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.exporters.tables import csv_files
from bridges.exporters.tables.table import Numbers, Table, Texts, is_equal, types_of

ROW = st.tuples(
    st.sampled_from(["loss", "a,b", 'c"d', "e\nf", "g\rh", "é", ""]),
    st.floats() | st.sampled_from([0.0, -0.0, 1e-05, 1e16]),
    st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1]),
    st.booleans(),
    st.integers(0, 2**51),
    st.booleans(),
)


def table_of(rows: list[tuple[str, float, int, bool, int, bool]]) -> Table:
    text, floats, integers, truth, times, missing = zip(*rows, strict=True)
    return {
        "key": Texts.of(text),
        "value": Numbers(np.array(floats), np.array(missing) if any(missing) else None),
        "integer": Numbers(np.array(integers, np.int64)),
        "truth": Numbers(np.array(truth)),
        "time": Numbers(np.array(times, np.int64).view("datetime64[us]")),
    }


@given(st.lists(ROW, min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 200))
def test_a_table_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, float, int, bool, int, bool]],
    lines: int,
    chars: int,
) -> None:
    path, table = tmp_path_factory.mktemp("csv") / "a.csv", table_of(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "LINES_AT_ONCE", lines)
        patch.setattr(csv_files, "CHARS_AT_ONCE", chars)
        csv_files.write(str(path), table)
        found = csv_files.read(str(path), types_of(table))
    assert is_equal(found, table)
    assert signs(found) == signs(table)
    with path.open(newline="", encoding="utf-8") as file:
        _, *cells = csv.reader(file)
    expected = ["" if row[5] else repr(row[1]).replace("nan", "NaN") for row in rows]
    assert [row[1] for row in cells] == expected


def signs(table: Table) -> list[bool]:
    """Whether each filled value is negative, as -0.0 is."""
    column = table["value"]
    assert isinstance(column, Numbers)
    gone = np.zeros(len(column), bool) if column.missing is None else column.missing
    values = column.values[~gone & ~np.isnan(column.values)]
    return [*map(bool, np.signbit(values))]


@pytest.mark.parametrize(
    "text",
    [
        "key,value\na,1.0\nb\n",
        "key,value\na\nb,1.0,2\n",
        'key,value\n"a",x\n',
        "key\na\n",
        "",
        "\n",
    ],
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".*"):
        csv_files.read(str(path), {"key": "text", "value": "float64"})


def test_columns_in_another_order_and_a_last_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("value,more,key\n1.5,x,a\n2.5,y,b")
    found = csv_files.read(str(path), {"key": "text", "value": "float64"})
    assert is_equal(found, {"key": Texts.of("ab"), "value": Numbers(np.array([1.5, 2.5]))})


def test_long_cells_are_read_and_the_limit_of_the_process_stays(tmp_path: Path) -> None:
    table = {"key": Texts.of(['a"' * 100_000])}
    path = str(tmp_path / "x.csv")
    csv_files.write(path, table)
    before = csv.field_size_limit(1_000)
    try:
        assert is_equal(csv_files.read(path, types_of(table)), table)
        assert csv.field_size_limit() == 1_000
    finally:
        csv.field_size_limit(before)
