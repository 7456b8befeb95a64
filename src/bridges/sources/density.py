"""How densely a text is filled with small objects, lists or lines.

Each of these takes far more memory than its bytes, and a log row with a step has at least 16.
"""

from __future__ import annotations

import numpy as np

SMALL = 1 << 20  # bytes of a text that takes little memory, whatever it holds
_BYTES = 16  # of the file for each part, at least
_BLOCK = 1 << 18  # bytes that fit into a processor's cache


def too_many_parts(data: bytes) -> int | None:
    """How many objects, lists and lines of a table a text holds, where these are too many."""
    if len(data) <= SMALL:
        return None
    lines = data.count(b"\n") if data[:1] == b"|" else 0
    count = _openings(data) + lines
    return count if count > len(data) // _BYTES else None


def _openings(data: bytes) -> int:
    """How many opening brackets and braces a text has: they differ in one bit."""
    signs, count = np.frombuffer(data, np.uint8), 0
    for start in range(0, len(signs), _BLOCK):
        count += int(np.count_nonzero((signs[start : start + _BLOCK] & 0xDF) == 0x5B))
    return count
