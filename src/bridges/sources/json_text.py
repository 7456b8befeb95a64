"""Parses JSON as Python writes it: with NaN and Infinity, and exact int64.

The fast parser reads valid text. Text that it rejects, or that may contain duplicate keys, is
parsed again by the slower standard library, which reports positions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np
from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources.fetch import EXPECTED
from bridges.sources.json_errors import bad_number, decode, refuse_deep, refused, too_deep
from bridges.sources.text_density import SMALL_BYTES, too_many_values
from bridges.stream.finding import Finding, Severity

_COLON = ord(":")
Repeated = Counter[str]  # objects with a duplicate, by key
MAX_KEYS = 20_000  # of a log; real logs have up to a few hundred, each a curve in the target
_USUAL_KEYS = 100  # average number of keys per object
_NOT_BLANK = re.compile(rb"\S")


def parse(
    location: str, data: bytes, first_line: int = 1, *, more: bool = False
) -> tuple[object, Repeated]:
    """The JSON value of a text, and its duplicate keys. Raises SourceError.

    `first_line`: the number of its first line in the file; `more`: further lines follow it.
    """
    if len(data) > SMALL_BYTES:
        _check_syntax(location, data, first_line, more)
        refuse_heavy(location, data)
    try:
        value = from_json(data, cache_strings="keys")
    except ValueError as error:
        refuse_deep(location, str(error), first_line)
        return _parse_slowly(location, data, first_line, more)
    if may_repeat_a_key(data, value):
        return _parse_slowly(location, data, first_line, more)
    return value, Repeated()


def is_lines(data: bytes) -> bool:
    """Whether a text is JSON lines: an object on its first line, and further lines."""
    begun = _NOT_BLANK.search(data)
    end = data.find(b"\n", begun.start()) if begun and begun[0] == b"{" else -1
    if not begun or end < 0 or _NOT_BLANK.search(data, end) is None:
        return False
    line = data[begun.start() : end].rstrip(b" \t\r")
    if not line.endswith(b"}"):
        return False
    return b'"log_history"' not in line or _is_json(line)  # otherwise a state on several lines


def _is_json(data: bytes) -> bool:
    try:
        from_json(data)
    except ValueError:
        return False
    return True


def parse_each_line(
    location: str, data: bytes, first_line: int = 1, *, more: bool = False
) -> tuple[list[object], Repeated]:
    """The values of all non-blank lines, and their duplicate keys. Raises SourceError with the
    number of the line.

    `first_line`: the number of the first line in the file; `more`: further lines follow.
    """
    lines = [line for line in data.split(b"\n") if line.strip()]
    try:
        rows = from_json(b"[" + b",".join(lines) + b"]", cache_strings="keys")
        if len(rows) == len(lines) and not may_repeat_a_key(data, rows):
            return rows, Repeated()
    except ValueError:
        pass  # parsing line by line gives the position
    return _parse_lines_slowly(location, data, first_line, more)


def _parse_lines_slowly(
    location: str, data: bytes, first_line: int, more: bool
) -> tuple[list[object], Repeated]:
    rows, repeated = [], Repeated()
    lines = data.rstrip().split(b"\n")
    last = first_line + len(lines) - 1
    for number, line in enumerate(lines, first_line):
        if line.strip():
            row, found = parse(location, line, number, more=more or number < last)
            rows.append(row)
            repeated.update(found)
    return rows, repeated


def line_parts(
    location: str, data: bytes, size: int
) -> Iterator[tuple[list[int], list[object], Repeated]]:
    """The non-blank lines in parts of about `size` bytes: line numbers, values, duplicate keys.

    Raises SourceError with the number of the line.
    """
    start, end, number = 0, len(data.rstrip()), 1
    while start < end:
        stop = data.find(b"\n", start + size, end)
        stop = end if stop < 0 else stop
        refuse_heavy_row(location, data, start, stop, f"line {number}")
        part = data[start:stop]
        rows, repeated = parse_each_line(location, part, number, more=stop < end)
        lines = part.split(b"\n")
        yield [n for n, line in enumerate(lines, number) if line.strip()], rows, repeated
        start, number = stop + 1, number + len(lines)


def refuse_heavy_row(location: str, data: bytes, start: int, end: int, place: str) -> None:
    """Raise SourceError for a slice of a text with a row that takes far more memory than bytes."""
    refuse_heavy(location, data, start, end, place=place)
    if end - start <= SMALL_BYTES:
        return
    keys, objects = data.count(b'":', start, end), data.count(b"{", start, end)
    if keys > max(MAX_KEYS, _USUAL_KEYS * objects):  # not a history with many rows on one line
        raise too_many_keys(location, keys, place)


def too_many_keys(location: str, count: int, place: str = "") -> SourceError:
    """The error for rows with more keys than a log can have."""
    return SourceError(
        location,
        place=place,
        found=f"{count:,} different keys in its rows",
        expected=f"at most {MAX_KEYS:,}",
        remedy="This is not a log history: check which file you gave.",
    )


def refuse_heavy(
    location: str, data: bytes, start: int = 0, end: int | None = None, *, place: str = ""
) -> None:
    """Raise SourceError for a slice of a text that takes too much memory if parsed at once."""
    count = too_many_values(data, start, end)
    if count is not None:
        size = (len(data) if end is None else end) - start
        raise SourceError(
            location,
            place=place,
            found=f"{count:,} values in {size:,} bytes",
            expected=EXPECTED,
            remedy="This is not a log history: check which file you gave.",
        )


def may_repeat_a_key(data: bytes | memoryview, value: object) -> bool:
    """False only if each object entry in the text is also in the parsed value.

    Each entry has one colon, so a text has at most as many entries as colons. If strings contain
    colons, quotes directly before colons are counted instead, unless blanks may separate the two.
    """
    colons, entries = np.count_nonzero(np.frombuffer(data, np.uint8) == _COLON), _entries(value)
    if colons == entries:
        return False
    entries = _all_entries(value)
    if colons == entries:
        return False
    data = bytes(data)
    if any(data.count(blank + b":") for blank in (b" ", b"\n", b"\t", b"\r")):
        return True
    return data.count(b'":') != entries


def _entries(value: object) -> int:
    """The number of object entries in a history with the usual nesting; otherwise any number."""
    if isinstance(value, list):
        return sum(map(len, value)) if set(map(type, value)) == {dict} else -1
    if not isinstance(value, dict):
        return 0
    history = value.get("log_history")
    count = len(value) + (_entries(history) if isinstance(history, list) and history else 0)
    return count + sum(_all_entries(v) for k, v in value.items() if k != "log_history")


def _all_entries(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_all_entries, value.values()))
    return sum(map(_all_entries, value)) if isinstance(value, list) else 0


def _parse_slowly(
    location: str, data: bytes, first_line: int, more: bool
) -> tuple[object, Repeated]:
    text, repeated = decode(location, data, first_line, more=more), Repeated()

    def keep_last(pairs: list[tuple[str, object]]) -> dict[str, object]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            repeated.update(k for k, n in Counter(key for key, _ in pairs).items() if n > 1)
        return entries

    try:
        value = json.loads(text, object_pairs_hook=keep_last)
    except json.JSONDecodeError as error:
        raise refused(location, text, error, first_line, more) from None
    except RecursionError:
        raise too_deep(location, "") from None
    except ValueError:  # an integer of more than 4,300 digits
        raise bad_number(location, text, first_line) from None
    return value, repeated


def _check_syntax(location: str, data: bytes, first_line: int, more: bool) -> None:
    """Raise SourceError for the first syntax error, without building the objects of the text."""
    text = decode(location, data, first_line, more=more)
    try:
        with suppress(RecursionError):  # the fast parser reports the position
            json.loads(
                text,
                object_pairs_hook=_discard,
                parse_int=_discard,
                parse_float=_discard,
                parse_constant=_discard,
            )
    except json.JSONDecodeError as error:
        raise refused(location, text, error, first_line, more) from None


def _discard(value: object) -> None:
    return None


def repeated_keys(repeated: Repeated) -> list[Finding]:
    """A finding for each duplicate key."""
    message = "the key occurs twice in one object; its last value is used, as by Python's json"
    return [
        Finding("duplicate-key", Severity.WARNING, f"key {key!r}", message, count)
        for key, count in repeated.items()
    ]


def names(keys: Iterable[str], limit: int = 6) -> str:
    """The first keys for a message: `'a', 'b' and 3 more`."""
    listed = list(keys)
    shown = ", ".join(repr(key) for key in listed[:limit])
    return shown + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
