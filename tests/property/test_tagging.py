"""Tags in which keys meet: nothing is lost, and each row's last key has the tag."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridges.exporters.mlflow.limits import Limits
from bridges.huggingface.callback_naming import CallbackNaming
from bridges.stream.model import Series
from bridges.stream.tagging import under_tags
from tests.support import make_stream

KEYS = st.sampled_from(["a_1", "a@1", "a%1", "a_1-e351959b", "b", "b/c", "b//c", "..", "a:b"])
VALUES = st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.booleans())
ROWS = st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5), min_size=1, max_size=8)


def tagged(rows: list[dict[str, Any]]) -> list[Series]:
    stream, naming = make_stream(rows), CallbackNaming("mlflow")
    tags = {key: naming.tag(key) for key in stream.keys}
    return under_tags(stream.series, tags)[0]


def values_of(series: list[Series]) -> Counter[tuple[int, str]]:
    return Counter(
        (row, repr(value))
        for part in series
        for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True)
    )


@given(ROWS)
def test_every_value_is_there_once(rows: list[dict[str, Any]]) -> None:
    series = tagged(rows)
    assert values_of(series) == values_of(list(make_stream(rows).series))
    assert len({(part.key, part.values.dtype.kind) for part in series}) == len(series)
    assert all((np.diff(part.rows) > 0).all() for part in series)
    cells = [(part.key, row) for part in series for row in part.rows.tolist()]
    assert len(set(cells)) == len(cells)


@given(ROWS)
def test_the_tag_shows_the_last_of_each_row(rows: list[dict[str, Any]]) -> None:
    naming = CallbackNaming("mlflow")
    shown = {
        (part.key, row): repr(value)
        for part in tagged(rows)
        for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True)
    }
    for row, values in enumerate(rows):
        live = {naming.tag(key): values[key] for key in sorted(values)}
        assert {tag: shown[tag, row] for tag in live} == {t: repr(v) for t, v in live.items()}


@given(ROWS, ROWS)
def test_later_rows_change_nothing_for_earlier_ones(
    rows: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    def first(series: list[Series]) -> set[tuple[str, int, str]]:
        return {
            (part.key, row, repr(value))
            for part in series
            for row, value in zip(part.rows.tolist(), part.values.tolist(), strict=True)
            if row < len(rows)
        }

    # only a key that has the name which an earlier one got as its own moves that one
    if not any("a_1-e351959b" in row for row in [*rows, *more]):
        assert first(tagged(rows)) == first(tagged([*rows, *more]))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.booleans())
def test_every_key_becomes_one_that_mlflow_takes(key: str, colon: bool) -> None:
    limits = Limits(colon=colon)
    legal = limits.legal_key(key)
    assert limits.takes_key(legal)
    assert (legal == key) == limits.takes_key(key)


def test_what_odd_keys_become() -> None:
    odd = ["a//b", "..", ".", "/lead", "trail/", "./x", "x/.", "a/../b", "..x", "", "é@", "a\nb"]
    assert [Limits().legal_key(key) for key in odd] == [
        *("a/_/b", "_", "_", "_/lead", "trail/_", "_/x", "x/_", "a/_/b", "__x", "_", "é_", "a_b")
    ]
