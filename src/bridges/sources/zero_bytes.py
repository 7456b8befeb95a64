"""Zero bytes in a text: a file system that lost power leaves them for blocks it had not written.

No text holds a zero byte, so each is damage; binary data and UTF-16 are full of them.
"""

from __future__ import annotations

import re
from itertools import pairwise

from pydantic_core import from_json

_RUN = re.compile(rb"\0+")
_JSON_LINE = re.compile(rb"\s*\{[^\n\0]*\}[ \t\r]*\n")
_BLOCK = 512  # bytes: no disk writes less


def zero_bytes(data: bytes) -> str | None:
    """What the zero bytes of a text are, for a message; None where it has none."""
    if b"\0" not in data:  # far faster than to count none
        return None
    count = data.count(b"\0")
    only = "nothing but " if count == len(data) else ""
    return f"{only}{count:,} zero byte{'s' * (count > 1)}, as a power cut leaves them"


def is_torn(data: bytes) -> bool:
    """Whether zero bytes near the beginning are damage of a JSON text: a long run, or all to its
    end. Binary data and UTF-16 have short runs, or do not begin as such a text.
    """
    run = _RUN.search(data)
    size = run.end() - run.start() if run else 0
    if run and run.start():
        return data.lstrip()[:1] in b"{[|" and (size >= 8 or run.end() == len(data))
    return size >= _BLOCK or 0 < size == len(data)


def whole_part(data: bytes) -> bytes:
    """What can be read of a text with zero bytes: of JSON lines, those that are whole, as a writer
    that began again appended them; of any other text, what precedes the first zero byte.
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
