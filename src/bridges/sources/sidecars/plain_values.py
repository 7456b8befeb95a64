"""Converts settings and facts of a run to values that every target can store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

MAX_VALUES = 100_000  # in the settings of a file; each takes up to 250 bytes of memory
MAX_DEPTH = 200  # levels of nesting, as in the JSON parser
_MAX_INT_BITS = 1023  # larger integers overflow float64, in which targets compare and plot
_PRINTABLE_BITS = 14_000  # Python prints integers of at most 4,300 digits


@overload
def plain(value: str, depth: int = 0) -> str: ...
@overload
def plain(value: object, depth: int = 0) -> object: ...
def plain(value: object, depth: int = 0) -> object:
    """The value with integers beyond float64 as text, and lone surrogates replaced.

    Raises ValueError if lists and dicts are nested more than `MAX_DEPTH` levels deep.
    """
    if type(value) is int:
        return value if value.bit_length() <= _MAX_INT_BITS else _digits(value)
    if isinstance(value, str):
        return value if value.isascii() else _valid(value)
    if not isinstance(value, (dict, list)):
        return value
    if depth == MAX_DEPTH:
        raise ValueError(f"its values are nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {plain(key): plain(item, depth + 1) for key, item in value.items()}
    return [plain(item, depth + 1) for item in value]


def plain_values(values: Mapping[str, object]) -> dict[str, object]:
    """`plain` of each key and value. Raises ValueError for more than `MAX_VALUES` values."""
    if count_values(values, MAX_VALUES) > MAX_VALUES:
        raise ValueError(f"it contains more than {MAX_VALUES:,} values")
    return {plain(key): plain(value) for key, value in values.items()}


def count_values(value: object, most: int) -> int:
    """The number of nested values, the value itself included; counting stops beyond `most`."""
    waiting, count = [value], 0
    while waiting and count <= most:
        found = waiting.pop()
        count += 1
        if isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
    return count


def _digits(value: int) -> str:
    """The integer as text: decimal, or hexadecimal if it is too long for Python to print."""
    return str(value) if value.bit_length() < _PRINTABLE_BITS else hex(value)


def _valid(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which UTF-8 cannot encode."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
