"""Zero bytes in a text file, left by a power cut for unwritten blocks.

Valid text has no zero bytes; binary data and UTF-16 have many.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pydantic_core import from_json

_RUN = re.compile(rb"\0+")
_JSON_LINE = re.compile(rb"\s*\{[^\n\0]*\}[ \t\r]*\n")
_BLOCK_BYTES = 512  # the smallest block that a disk writes


def zero_bytes(data: bytes) -> str | None:
    """A description of the zero bytes of a text, for a message; None if it has none."""
    if b"\0" not in data:  # much faster than counting
        return None
    count = data.count(b"\0")
    only = "nothing but " if count == len(data) else ""
    return f"{only}{count:,} zero byte{'s' * (count > 1)}, as a power cut leaves them"


def is_torn(data: bytes) -> bool:
    """Whether zero bytes near the beginning are damage in a JSON text.

    Damage is a long run of zero bytes, or one up to the end. Binary data and UTF-16 have short runs
    or another first character.
    """
    run = _RUN.search(data)
    size = run.end() - run.start() if run else 0
    if run and run.start():
        return data.lstrip()[:1] in b"{[|" and (size >= 8 or run.end() == len(data))
    return size >= _BLOCK_BYTES or 0 < size == len(data)


def intact_part(data: bytes) -> bytes:
    """The readable part of a text with zero bytes.

    For JSON lines, all complete lines, because a restarted writer appends after the damage. For
    other text, the part before the first zero byte.
    """
    if not _JSON_LINE.match(data.lstrip(b"\0")):
        return data[: data.find(b"\0")]
    pieces = [piece.split(b"\n") for piece in _RUN.split(data)]
    for before, after in pairwise(pieces):
        before[-1:] = filter(_is_object, before[-1:])
        after[:1] = filter(_is_object, after[:1])
    return b"\n".join(line for lines in pieces for line in lines)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(from_json(line), dict)
    except ValueError:
        return False
