"""Rows become columns and rows again: no value, type, key or place is lost."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridges.stream.columns import as_array, series_from_rows
from tests.property.histories import Rows, odd_rows
from tests.support import make_stream, same, with_steps


@given(odd_rows())
def test_rows_come_back_with_their_types(rows: Rows) -> None:
    assert same(list(make_stream(rows)), with_steps(rows))


@given(odd_rows())
def test_each_series_has_one_key_one_type_and_rising_rows(rows: Rows) -> None:
    series, _ = series_from_rows(rows)
    assert len({(part.key, part.values.dtype.kind) for part in series}) == len(series)
    for part in series:
        assert part.values.dtype in (np.float64, np.int64, np.bool_, object)
        assert (np.diff(part.rows) > 0).all()
        assert len(part.rows) == len(part.values) > 0


@given(odd_rows())
def test_the_keys_are_those_of_the_rows(rows: Rows) -> None:
    keys = {key for row in rows for key in row if key != "step"}
    assert sorted(make_stream(rows).keys) == sorted(keys)


@given(odd_rows(), st.integers(0, 12), st.integers(0, 12))
def test_a_slice_holds_the_rows_between(rows: Rows, one: int, other: int) -> None:
    start, stop = sorted((one, other))
    for part in make_stream(rows).series:
        piece = part.slice(start, stop)
        inside = [row for row in part.rows.tolist() if start <= row < stop]
        assert piece.rows.tolist() == inside
        assert len(piece.values) == len(inside)


@given(st.lists(st.one_of(st.lists(st.integers(), max_size=2), st.none(), st.text(max_size=2))))
def test_objects_stay_single(values: list[Any]) -> None:
    array = as_array(values, object)
    assert array.shape == (len(values),)
    assert same(array.tolist(), values)


@given(odd_rows())
def test_column_gathers_the_numbers_of_a_key_in_row_order(rows: Rows) -> None:
    stream = make_stream(rows)
    for key in stream.keys:
        positions, values = stream.column(key)
        found = dict(zip(positions.tolist(), values.tolist(), strict=True))
        assert same(
            found,
            {
                row: float(entry[key])
                for row, entry in enumerate(rows)
                if isinstance(entry.get(key), (int, float))
            },
        )
        assert all(low < high for low, high in pairwise(positions.tolist()))
