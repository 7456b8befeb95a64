"""Reads the object in a small JSON file beside a history: settings or results."""

from __future__ import annotations

import json

from pydantic_core import from_json

from bridges.sources.zero_bytes import zero_bytes

MAX_VALUES = 100_000  # each takes up to 250 bytes of memory and at least 3 bytes in the file


def read_json(data: bytes) -> dict[str, object]:
    """The entries of the object, with NaN and Infinity.

    Integers of more than 4,300 digits stay text. Raises ValueError or TypeError with a message that
    describes the content.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    zeros = zero_bytes(data)
    if zeros:
        raise ValueError(f"it contains {zeros}")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise ValueError(f"it contains more than {MAX_VALUES:,} values")
    try:
        found = from_json(data, cache_strings="keys")
    except ValueError as error:
        if "recursion limit" in str(error):
            raise ValueError("its values are nested too deeply") from None
        found = json.loads(data.decode(), parse_int=_integer)
    if not isinstance(found, dict):
        raise TypeError(f"it is a JSON {type(found).__name__}, not an object")
    return found


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= 4300 else digits
