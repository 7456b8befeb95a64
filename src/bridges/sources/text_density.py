"""Density limits: a text must not contain too many objects, lists, values or lines for its size.

Each of these takes far more memory than its bytes; a log row with a step has at least 16 bytes.
"""

from __future__ import annotations

import numpy as np

SMALL_BYTES = 1 << 20  # a shorter text is not checked: it takes little memory with any content
_MIN_BYTES_PER_PART = 16
_BLOCK_BYTES = 1 << 18  # fits into the CPU cache
_OBJECT_BYTES, _LIST_BYTES, _VALUE_BYTES = 190, 70, 32  # memory of each as a Python object
_MAX_MEMORY_RATIO = 5  # memory of the objects over the size of the text


def too_many_parts(data: bytes) -> int | None:
    """The number of objects, lists and table lines in a text if it is too high; else None."""
    if len(data) <= SMALL_BYTES:
        return None
    lines = data.count(b"\n") if data[:1] == b"|" else 0
    count = _openings(data) + lines
    return count if count > len(data) // _MIN_BYTES_PER_PART else None


def too_many_values(data: bytes, start: int = 0, end: int | None = None) -> int | None:
    """The number of values in a slice of a text if parsing it takes too much memory; else None."""
    size = (len(data) if end is None else end) - start
    if size <= SMALL_BYTES:
        return None
    objects, lists, commas = (data.count(sign, start, end) for sign in (b"{", b"[", b","))
    memory = _OBJECT_BYTES * objects + _LIST_BYTES * lists + _VALUE_BYTES * commas
    return commas + 1 if memory > _MAX_MEMORY_RATIO * size else None


def _openings(data: bytes) -> int:
    """The number of opening brackets and braces in a text; the two differ in one bit."""
    chars, count = np.frombuffer(data, np.uint8), 0
    for start in range(0, len(chars), _BLOCK_BYTES):
        count += int(np.count_nonzero((chars[start : start + _BLOCK_BYTES] & 0xDF) == 0x5B))
    return count
