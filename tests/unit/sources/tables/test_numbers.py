"""Blocks of numbers: converted at once, with columns of texts beside them."""

from __future__ import annotations

import sys

import pytest

from bridges.sources.tables import numbers
from bridges.sources.tables.numbers import NumberParser

WAYS = ("arrow", "json")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversion by Arrow, or without it."""
    arrow, is_arrow = numbers._arrow, request.param == "arrow"
    monkeypatch.setattr(numbers, "_arrow", lambda size: arrow(1 << 62) if is_arrow else None)


@pytest.mark.usefixtures("way")
def test_texts_beside_numbers_do_not_make_them_slow() -> None:
    parser = NumberParser(4, ",", 1)
    first = parser.parse(b"1,a,0.5,\n2,b,,\n")
    found = parser.parse(b"3,v1.2,5,\n4,,1e-05,\n")  # as many dots as floats
    assert first is not None
    assert found is not None
    assert (first.texts, found.texts) == ({1: ["a", "b"]}, {1: ["v1.2", ""]})
    assert found.is_int.tolist() == [[True, False, True, False], [True, False, False, False]]
    assert found.is_float.tolist() == [[False] * 4, [False, False, True, False]]
    assert (found.ints[0, 2], found.floats[1, 2]) == (5, 1e-05)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "block",
    [
        b'1,"2"\n',
        b"1,2\r\n",
        b"1,2\n\n",
        b"1,2\n3\n",
        b"1\n2,3,4\n",
        b"1,0x10\n2,3\n",
        b"1,nan(1)\n2,3\n",
        b"1,1_0\n2,3\n",
        b"1,12345678901234567890\n",
    ],
)
def test_other_blocks_are_left_to_the_reader_of_rows(block: bytes) -> None:
    assert NumberParser(2, ",", 1).parse(block) is None


@pytest.mark.usefixtures("way")
def test_an_integer_among_floats_is_found_without_a_column_of_floats_before() -> None:
    parser = NumberParser(2, ",", 1)
    for _ in range(2):
        found = parser.parse(b"1,0.5\n2,3\n4,1e5\n")
        assert found is not None
        assert found.is_int[:, 1].tolist() == [False, True, False]
    found = parser.parse(b"1.5,3\n")  # as many dots as before
    assert found is None or found.is_int.tolist() == [[False, True]]


def test_arrow_is_imported_for_long_texts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    assert numbers._arrow(numbers.ARROW_BYTES - 1) is None
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert numbers._arrow(numbers.ARROW_BYTES) is None
