"""Reads the items of history rows one by one, and those of a config or a summary."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

from pydantic_core import from_json

from bridges.formats.protobuf import read_varint
from bridges.formats.wandb_log.log import LogError, fields

ITEM_TAG, STEP_TAG = 0x0A, 0x12  # fields 1 and 2 of a row
KEY_TAG, NESTED_TAG = 0x0A, 0x12  # fields 1 and 2 of an item: the writers up to 0.17, and since
VALUE_TAG = b"\x82\x01"  # field 16, a text: the value of an item as JSON
Path = tuple[str, ...]  # the names of a value: several for a value in an object
_double = struct.Struct("<d")


def item_json(item: bytes) -> tuple[Path, bytes]:
    """The path and the JSON of an item of a row, config or summary. Raises LogError."""
    names, value = [], b"null"
    for number, content in fields(item):
        if number in (1, 2) and isinstance(content, bytes):
            names.append(content.decode(errors="replace"))
        elif number == 16 and isinstance(content, bytes):
            value = content
    return tuple(names) or ("",), value


def item_value(item: bytes) -> tuple[Path, object]:
    """The path and the value of an item, as JSON or as a typed value of wandb 0.31."""
    path, text = item_json(item)
    value: object = json.loads(text)  # also takes lone surrogates
    for number, content in fields(item):
        if number in _TYPED:
            value = _TYPED[number](content)
    return path, value


_TYPED: dict[int, Callable[[int | bytes], object]] = {
    4: bool,
    5: lambda content: _zigzag(content),
    6: lambda content: _number(content),
    7: lambda content: _sized(content).decode(),
    8: lambda content: json.loads(_sized(content)),
}


def _zigzag(content: int | bytes) -> int:
    if not isinstance(content, int):
        raise LogError("an integer of a row is not a number")
    return content >> 1 ^ -(content & 1)


def _number(content: int | bytes) -> float:
    if not isinstance(content, bytes) or len(content) != _double.size:
        raise LogError("a number of a row is not a float64")
    (number,) = _double.unpack(content)
    return float(number)


def _sized(content: int | bytes) -> bytes:
    if not isinstance(content, bytes):
        raise LogError("a value of a row is a number")
    return content


def plain_items(
    content: bytes, row: int, at: int, end: int
) -> list[tuple[int, int, int, int, int]] | None:
    """The items of a row, in the columns of `_Items`; None if it has others."""
    found = []
    try:
        while at < end and content[at] != STEP_TAG:
            size, name = content[at + 1], at + 2  # most sizes are one byte
            if size >= 0x80:
                size, name = read_varint(content, at + 1)
            stop, key_size, key = name + size, content[name + 1], name + 2
            if key_size >= 0x80:
                key_size, key = read_varint(content, name + 1)
            tail = key + key_size
            value_size, value = content[tail + 2], tail + 3
            if value_size >= 0x80:
                value_size, value = read_varint(content, tail + 2)
            is_plain = content[at] == ITEM_TAG and content[name] in (KEY_TAG, NESTED_TAG)
            is_plain &= stop <= end and content[tail : tail + 2] == VALUE_TAG
            if not is_plain or not value_size or value + value_size != stop:
                return None
            found.append((row, key, key_size, value, value_size))
            at = stop
    except IndexError:
        return None
    return found


def plain_row(content: bytes, at: int, end: int) -> dict[bytes, object] | None:
    """The values of a row by key; None if it has other items, or values that are not JSON."""
    items = plain_items(content, 0, at, end)
    if items is None:
        return None
    joined = b",".join([content[value : value + size] for *_, value, size in items])
    try:
        values: list[object] = from_json(b"[%s]" % joined)
    except ValueError:
        return None
    if len(values) != len(items):
        return None
    keys = [content[key : key + size] for _, key, size, *_ in items]
    return dict(zip(keys, values, strict=True))
