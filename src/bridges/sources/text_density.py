"""How densely a text is filled with small objects, lists, values or lines.

Each of these takes far more memory than its bytes, and a log row with a step has at least 16.
"""

from __future__ import annotations

import numpy as np

SMALL_BYTES = 1 << 20  # bytes of a text that takes little memory, whatever it holds
_BYTES = 16  # of the file for each part, at least
_BLOCK = 1 << 18  # bytes that fit into a processor's cache
_OBJECT, _LIST, _VALUE = 190, 70, 32  # bytes of memory that each takes as a Python object
_TIMES = 5  # the size of a text that its objects may take: beside them is the text itself


def too_many_parts(data: bytes) -> int | None:
    """How many objects, lists and lines of a table a text holds, where these are too many."""
    if len(data) <= SMALL_BYTES:
        return None
    lines = data.count(b"\n") if data[:1] == b"|" else 0
    count = _openings(data) + lines
    return count if count > len(data) // _BYTES else None


def too_many_values(data: bytes, start: int = 0, end: int | None = None) -> int | None:
    """How many values a part of a text holds, where it takes too much memory if parsed at once."""
    size = (len(data) if end is None else end) - start
    if size <= SMALL_BYTES:
        return None
    objects, lists, commas = (data.count(sign, start, end) for sign in (b"{", b"[", b","))
    memory = _OBJECT * objects + _LIST * lists + _VALUE * commas
    return commas + 1 if memory > _TIMES * size else None


def _openings(data: bytes) -> int:
    """How many opening brackets and braces a text has: they differ in one bit."""
    signs, count = np.frombuffer(data, np.uint8), 0
    for start in range(0, len(signs), _BLOCK):
        count += int(np.count_nonzero((signs[start : start + _BLOCK] & 0xDF) == 0x5B))
    return count
