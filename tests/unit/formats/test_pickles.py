"""Pickles as plain data: the values of Python's own unpickler, without what a bomb could use."""

from __future__ import annotations

import enum
import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.formats.pickles import Pickled, PickleError, read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


class Colour(enum.Enum):
    RED = "red"


class Slots:
    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 1


class Settings:
    def __init__(self) -> None:
        self.rate = 0.5
        self.nested = {"a": (1, 2)}
        self._private = 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(value=PLAIN)
def test_plain_values_are_as_python_reads_them(protocol: int, value: Any) -> None:
    assert read_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_values(protocol: int) -> None:
    shared = ["x" * 300]
    value = {
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "numbers": [0, 255, 256, 65_536, -1, 2**31, 2**63, -(2**80), 2**2100, 1e300],
        "shared": [shared, shared],
        1: None,
        None: 1,
    }
    read = read_pickle(pickle.dumps(value, protocol))
    assert read == {key if key == 1 else str(key): part for key, part in value.items()}
    assert read["shared"][0] is read["shared"][1]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_objects_are_their_name_arguments_and_fields(protocol: int) -> None:
    made = read_pickle(pickle.dumps([Settings(), Slots(), Colour.RED, Path, {1}], protocol))
    settings, slots, colour, path, numbers = made
    assert settings.name.endswith("test_pickles.Settings")
    assert settings.fields == {"rate": 0.5, "nested": {"a": (1, 2)}}
    assert slots.fields == {"left": 1}
    assert (colour.name.rpartition(".")[2], colour.args) == ("Colour", ("red",))
    assert (path.name.rpartition(".")[2], path.args) == ("Path", None)
    assert numbers == [1] or (numbers.name.endswith(".set") and numbers.args == ([1],))


def test_items_of_objects_are_passed_over() -> None:
    made = read_pickle(pickle.dumps(OrderedDict(a=1), 2))
    assert (made.name, made.args, made.fields) == ("collections.OrderedDict", (), {})


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b".", b"N", b"\xff", b"e.", b"t.", b"h\0.", b"R.", b"\x86."),
        *(b"X\xff\xff\xff\xffabc.", b"\x8d" + b"\xff" * 8 + b".", b"\x96" + b"\xff" * 8 + b"."),
        *(b"\x8b\xff\xff\xff\xff.", b"I9" + b"9" * 5000 + b"\n.", b"Ix\n.", b"Fx\n.", b"Sx\n."),
        *(b"NNs.", b"NNa.", b"N}b.", b"N)R.", b"NN\x93.", b"(N", b"\x82\x01.", b"\x97."),
        *(b"U\x01\xff.", b"X\x01\0\0\0\xff.", b"pq\n.", b"(o.", b"cos\nsystem\nNR.", b"}(NNNu."),
    ],
)
def test_what_is_no_pickle_is_refused(data: bytes) -> None:
    with pytest.raises(PickleError, match="at byte"):
        read_pickle(data)


@given(st.binary(max_size=60), st.sampled_from(PROTOCOLS), st.integers(0, 200))
def test_any_bytes_are_a_value_or_an_error(junk: bytes, protocol: int, cut: int) -> None:
    real = pickle.dumps([{"a": (1, 2.5)}, Slots.__name__, [True, "x" * 9, 2**70]], protocol)
    for data in (junk + b".", real[:cut] + junk + real[cut:], real[: cut % len(real)] + junk):
        with suppress(PickleError):
            read_pickle(data)


def test_nothing_is_called() -> None:
    made = read_pickle(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert isinstance(made, Pickled)
    assert (made.name, made.args) == ("os.system", ("exit 1",))
