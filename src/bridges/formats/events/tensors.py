"""The number or the strings of a `TensorProto`, and columns of such numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bridges.formats.protobuf import fields, read_varint
from bridges.stream.model import Values

Column = NDArray[np.generic]
# protobuf keys: number * 8 + wire type
DTYPE, SHAPE, CONTENT, STRING = 8, 18, 34, 66  # in a tensor
DIMENSION, SIZE = 18, 8  # in a shape, in a dimension
_BFLOAT16 = "bfloat16"
_FLOAT_VAL, _DOUBLE_VAL, _INT_VAL, _INT64_VAL, _BOOL_VAL, _HALF_VAL = 5, 6, 7, 10, 11, 13
_UINT32_VAL, _UINT64_VAL = 16, 17
# by DataType: kind of the bytes, their size, and the typed field that may hold them instead
DTYPES = {
    1: ("<f4", 4, _FLOAT_VAL),
    2: ("<f8", 8, _DOUBLE_VAL),
    3: ("<i4", 4, _INT_VAL),
    4: ("u1", 1, _INT_VAL),
    5: ("<i2", 2, _INT_VAL),
    6: ("i1", 1, _INT_VAL),
    9: ("<i8", 8, _INT64_VAL),
    10: ("?", 1, _BOOL_VAL),
    14: (_BFLOAT16, 2, _HALF_VAL),
    17: ("<u2", 2, _INT_VAL),
    19: ("<f2", 2, _HALF_VAL),
    22: ("<u4", 4, _UINT32_VAL),
    23: ("<u8", 8, _UINT64_VAL),
}
SIZES = {kind: size for kind, size, _ in DTYPES.values()}
_WIRES = {"<f4": 5, "<f8": 1}  # wire types of typed fields; the others hold varints
_STORED = {_BFLOAT16: "<u2", "?": "u1"}  # dtypes of the bytes where the kind is not one
_WIDE = frozenset({"<f8", "<i4", "<u4", "<i8", "<u8"})  # float32 cannot hold all their numbers
_INEXACT = frozenset({"<i8", "<u8"})  # nor can float64


def number_in(data: bytes, start: int, end: int) -> tuple[str, int, bytes] | None:
    """The kind, the offset and the bytes of the one number of a tensor; None if it has not one.

    The offset is -1 if the number is stored as a varint, or omitted because it is zero. Raises
    IndexError for bytes that are not a message.
    """
    dtype, count, content = 0, 1, b""
    at, typed = -1, []
    for key, first, stop in fields(data, start, end):
        if key == DTYPE:
            dtype = read_varint(data, first)[0]
        elif key == SHAPE:
            count *= _elements(data, first, stop)
        elif key == CONTENT:
            at, content = first, data[first:stop]
        else:
            typed.append((key, first, stop))
    if count != 1 or dtype not in DTYPES:
        return None
    kind, size, field = DTYPES[dtype]
    if content:
        return (kind, at, content) if len(content) == size else None
    keys = (field << 3 | 2, field << 3 | _WIRES.get(kind, 0))  # packed or not
    return _typed_number(data, kind, size, [part[1:] for part in typed if part[0] in keys])


def _elements(data: bytes, start: int, end: int) -> int:
    """The number of elements of a tensor of this shape."""
    count = 1
    for key, at, stop in fields(data, start, end):
        if key == DIMENSION:
            sizes = [read_varint(data, a)[0] for k, a, _ in fields(data, at, stop) if k == SIZE]
            count *= sizes[-1] if sizes else 0
    return count


def _typed_number(
    data: bytes, kind: str, size: int, parts: Sequence[tuple[int, int]]
) -> tuple[str, int, bytes] | None:
    """As `number_in`, of a typed field; without a value, it is zero."""
    if kind in _WIRES:
        parts = [(at, end) for at, end in parts if end > at]
        if not parts:
            return kind, -1, bytes(size)
        (at, end), *others = parts
        return (kind, at, data[at:end]) if end - at == size and not others else None
    numbers = []
    for at, end in parts:
        while at < end:
            number, at = read_varint(data, at)
            numbers.append(number)
    if len(numbers) > 1:
        return None
    bits = sum(numbers) if kind != "?" else int(any(numbers))
    return kind, -1, (bits & (1 << 8 * size) - 1).to_bytes(size, "little")


def strings_in(data: bytes, start: int, end: int) -> list[str]:
    """The strings of a tensor; bytes that are not UTF-8 are escaped."""
    return [
        data[at:stop].decode("utf-8", "backslashreplace")
        for key, at, stop in fields(data, start, end)
        if key == STRING
    ]


def stored_dtype(kind: str) -> str:
    """The dtype of a column of the bytes of a kind."""
    return _STORED.get(kind, kind)


def as_floats(column: Column, kind: str) -> tuple[Values, int]:
    """A column of a kind as float32 or float64, and how many numbers were rounded."""
    if kind in {"<f4", "<f8"}:
        return column, 0
    if kind == _BFLOAT16:
        return (column.astype("<u4") << np.uint32(16)).view("<f4"), 0
    if kind == "?":
        return (column != 0).astype(np.float32), 0
    numbers = column.astype(np.float64 if kind in _WIDE else np.float32)
    return numbers, _rounded(column, numbers) if kind in _INEXACT else 0


def _rounded(integers: Column, numbers: Values) -> int:
    """How many 64-bit integers differ from the float64 nearest to them."""
    large = np.flatnonzero(np.abs(numbers) >= 2.0**53)
    pairs = zip(integers[large].tolist(), numbers[large].tolist(), strict=True)
    return sum(integer != int(number) for integer, number in pairs)


def joined(raw: Sequence[bytes], kind: str) -> Column:
    """Numbers of a kind as a column, from the bytes of each."""
    return np.frombuffer(b"".join(raw), stored_dtype(kind))
