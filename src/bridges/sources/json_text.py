"""JSON as Python writes it: NaN and Infinity allowed, int64 exact, places of errors, salvage.

The fast parser reads what is right; whatever it refuses, or where a key may stand twice, the
standard library's parser reads again, slowly, and knows the place.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources.text import EXPECTED
from bridges.sources.text import SALVAGE as SALVAGE
from bridges.stream.finding import Finding, Severity
from bridges.stream.redact import redact_text

_COLON = ord(":")
DEEPEST = 200  # levels of nesting: the limit of the fast parser
_FIRST_LINE = re.compile(rb"\s*\{[^\n]*\}[ \t\r]*\n")
_FIRST_ROW = re.compile(rb'"log_history"\s*:\s*\[\s*\{')
_HISTORY = re.compile(r'"log_history"\s*:\s*\[')
_EXPECTED = {  # what the standard parser's message means in terms of the file
    "Expecting ',' delimiter": "a comma or a closing bracket",
    "Expecting ':' delimiter": "a colon after the key",
    "Expecting property name enclosed in double quotes": "a key in double quotes",
    "Expecting value": "a value",
    "Extra data": "the end of the file",
    "Invalid \\escape": "an escape that JSON knows, such as \\n or \\u00e9",
    "Invalid \\uXXXX escape": "four hexadecimal digits after \\u",
}
_MEND = "Mend the file there; it is no valid JSON (NaN and Infinity are fine)."
_HINTS = (  # what often stands at the place of the error, and what to do about it
    (r",\s*[\]}]", "a comma before the closing bracket", "Take that comma out."),
    (r"//|/\*|#", "a comment", "Take it out: JSON has no comments."),
    (
        r"'",
        "a single quote",
        "Write the file with json.dump: a printed Python dict is no JSON.",
    ),
    (r"(True|False|None)\b", "a Python constant", "Write true, false or null instead."),
    (r"(?i)[+-]?(nan|inf(inity)?)\b", "a misspelt number", "Write NaN, Infinity or -Infinity."),
    (r"[\x00-\x1f]", "a line break or control character inside of a string", "Escape it."),
)


def parse(
    location: str, data: bytes, first_line: int = 1, *, more: bool = False
) -> tuple[Any, list[Finding]]:
    """The JSON value of the text, and a finding for each key that stands twice in one object.

    `first_line` is the number of its first line in the file; `more` tells that lines follow it.
    """
    try:
        value = from_json(data, cache_strings="keys")
    except ValueError as error:
        _refuse_deep(location, str(error), first_line)
        return _parse_slowly(location, data, first_line, more)
    if may_repeat_a_key(data, value):
        return _parse_slowly(location, data, first_line, more)
    return value, []


def parse_lines(location: str, data: bytes) -> tuple[list[Any], list[Finding]] | None:
    """The values of JSON lines, or None where the first line is no whole object."""
    first = _FIRST_LINE.match(data)
    if first is None or not data[first.end() :].strip():
        return None
    return parse_each_line(location, data)


def parse_each_line(location: str, data: bytes) -> tuple[list[Any], list[Finding]]:
    """The values of all lines that are not blank. Raises SourceError with the line's number."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    try:
        rows = from_json(b"[" + b",".join(lines) + b"]", cache_strings="keys")
        if len(rows) == len(lines) and not may_repeat_a_key(data, rows):
            return rows, []
    except ValueError:
        pass  # line by line the place is known
    return _parse_lines_slowly(location, data)


def _parse_lines_slowly(location: str, data: bytes) -> tuple[list[Any], list[Finding]]:
    rows, findings = [], []
    lines = data.rstrip().split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            row, found = parse(location, line, number, more=number < len(lines))
            rows.append(row)
            findings += found
    return rows, findings


def may_repeat_a_key(data: bytes, value: Any) -> bool:
    """False only if every entry of the text is an entry of the value.

    Each entry has one colon, so the text has no more entries than colons. Where strings hold
    colons too, the quotes before colons are counted: one can only end a key or stand in a string,
    unless blanks stand between the two.
    """
    entries = _entries(value)
    if np.count_nonzero(np.frombuffer(data, np.uint8) == _COLON) == entries:
        return False
    if any(data.count(blank + b":") for blank in (b" ", b"\n", b"\t", b"\r")):
        return True
    return data.count(b'":') != entries


def _entries(value: Any) -> int:
    """How many object entries a parsed history has, as far as nesting is usual."""
    if isinstance(value, list):
        return sum(map(len, value)) if set(map(type, value)) == {dict} else -1
    if not isinstance(value, dict):
        return 0
    history = value.get("log_history")
    count = len(value) + (_entries(history) if isinstance(history, list) and history else 0)
    return count + sum(_all_entries(v) for k, v in value.items() if k != "log_history")


def _all_entries(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_all_entries, value.values()))
    return sum(map(_all_entries, value)) if isinstance(value, list) else 0


def _parse_slowly(
    location: str, data: bytes, first_line: int, more: bool
) -> tuple[Any, list[Finding]]:
    text = decode(location, data, first_line, more=more)
    repeated: Counter[str] = Counter()

    def keep_last(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            repeated.update(k for k, n in Counter(key for key, _ in pairs).items() if n > 1)
        return entries

    try:
        value = json.loads(text, object_pairs_hook=keep_last)
    except json.JSONDecodeError as error:
        if _is_cut_off(data, text, error):
            raise _cut_off(location, _place(text, error.pos, first_line), more) from None
        raise _bad_json(location, text, error, first_line) from None
    except RecursionError:
        raise _too_deep(location, "") from None
    except ValueError:  # an integer of more than 4,300 digits
        raise _bad_number(location, text, first_line) from None
    return value, [_repeated_key(key, count) for key, count in repeated.items()]


def decode(location: str, data: bytes, first_line: int = 1, *, more: bool = False) -> str:
    """The text of UTF-8 bytes. Raises SourceError with the place of the first wrong byte."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        place = _place(before, len(before), first_line)
        if error.reason == "unexpected end of data":
            raise _cut_off(location, place, more) from None
        raise SourceError(
            location,
            place=place,
            found=f"the byte 0x{data[error.start]:02x}, which is not UTF-8",
            expected="UTF-8 text",
            remedy="Convert the file to UTF-8, or copy it again in binary mode.",
        ) from None


def _place(text: str, position: int, first_line: int) -> str:
    line = text.count("\n", 0, position)
    return f"line {line + first_line}, column {position - text.rfind(chr(10), 0, position)}"


def _is_cut_off(data: bytes, text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is right as far as it goes."""
    if not text[error.pos :].strip() or error.msg.startswith("Unterminated string"):
        return True
    try:
        from_json(data)
    except ValueError as other:
        return str(other).startswith("EOF while parsing")
    return False


def _cut_off(location: str, place: str, more: bool) -> SourceError:
    """A text that ends too early, as the last line of its file or (`more`) before others."""
    return SourceError(
        location,
        place=place,
        found=f"the end of the {'line' if more else 'file'} inside of a value",
        expected="valid JSON",
        remedy="Take that line out: its save was cut off." if more else SALVAGE,
    )


def _bad_json(
    location: str, text: str, error: json.JSONDecodeError, first_line: int
) -> SourceError:
    position = error.pos
    if not text[:position].strip():
        return SourceError(
            location,
            place=_place(text, position, first_line),
            found=f"text that is no JSON ({_shown(text, position)})",
            expected=EXPECTED,
            remedy="Check which file you gave.",
        )
    before = text[:position].rstrip()
    if before[-1] == "," and text[position] in "]}":
        position = len(before) - 1  # Python 3.13 gives the comma's place, older ones the bracket's
    found, expected, remedy = _explain(text, position, error.msg)
    place = _place(text, position, first_line)
    return SourceError(location, place=place, found=found, expected=expected, remedy=remedy)


def _explain(text: str, position: int, message: str) -> tuple[str, str, str]:
    """What was found, what was expected and what to do."""
    shown = _shown(text, position)
    for pattern, what, remedy in _HINTS:
        if re.compile(pattern).match(text, position):
            return f"{what} ({shown})", "valid JSON", remedy
    if text[position - 1] == "0" and text[position].isdigit():
        return f"a number that begins with 0 ({shown})", "valid JSON", "Take that 0 out."
    return shown, _EXPECTED.get(message, "valid JSON"), _MEND


def _shown(text: str, position: int) -> str:
    """The text from a place on, to the end of its line, for a message."""
    line = text[position : position + 40].lstrip().partition("\n")[0]
    return repr(redact_text(line.rstrip()) or text[position])


def _bad_number(location: str, text: str, first_line: int) -> SourceError:
    digits = re.search(r"\d{4301,}", text)
    return SourceError(
        location,
        place=_place(text, digits.start(), first_line) if digits else "",
        found=f"an integer of {len(digits[0]) if digits else 'too many'} digits",
        expected="numbers of at most 4300 digits",
        remedy="Mend that number.",
    )


def _refuse_deep(location: str, message: str, first_line: int) -> None:
    found = re.search(r"recursion limit.*line (\d+) column (\d+)", message)
    if found:
        line = int(found[1]) + first_line - 1
        raise _too_deep(location, f"line {line}, column {found[2]}")


def _too_deep(location: str, place: str) -> SourceError:
    return SourceError(
        location,
        place=place,
        found=f"values nested more than {DEEPEST} levels deep",
        expected=EXPECTED,
        remedy="This is no log history: check which file you gave.",
    )


def _repeated_key(key: str, count: int) -> Finding:
    message = "the key stands twice in one object; its last value counts, as in Python's json"
    return Finding("duplicate-key", Severity.WARNING, f"key {key!r}", message, count)


def salvage(location: str, data: bytes) -> tuple[dict[str, Any] | None, list[Any], Finding]:
    """Header (None for bare rows) and the whole rows of a text that ends too early."""
    text = decode(location, _whole_characters(data))
    start = _HISTORY.search(text)
    if start:
        header = _header(text[: start.start()])
        rows, end = _whole_values(text, start.end(), ",")
    else:
        header = None
        opened = text.lstrip().startswith("[")
        rows, end = _whole_values(text, text.index("[") + 1 if opened else 0, "," if opened else "")
    if not rows:
        raise SourceError(
            location,
            found="a file that ends before its first whole log row",
            expected=EXPECTED,
            remedy="Nothing can be salvaged: use an earlier checkpoint's file.",
        )
    lost = len(text) - end
    message = f"the file ends too early: {len(rows)} whole rows are read, {lost} characters lost"
    return header, rows, Finding("salvaged", Severity.WARNING, f"row {len(rows) - 1}", message)


def first_row(location: str, data: bytes) -> Any:
    """The first log row of a text that may end too early. Raises SourceError for none."""
    start = _FIRST_ROW.search(data)
    if start:
        with suppress(ValueError, RecursionError):
            text = data[start.end() - 1 :].decode(errors="ignore")
            return json.JSONDecoder().raw_decode(text)[0]
    return salvage(location, data)[1][0]


def _whole_characters(data: bytes) -> bytes:
    """Without the last character where its bytes are not all there."""
    for cut in range(1, 4):
        if len(data) >= cut and data[-cut] >= 0xC0:
            return data[:-cut]
    return data


def _header(text: str) -> dict[str, Any]:
    """The entries before `log_history`, which the text ends with."""
    try:
        header = json.loads(text.rstrip().rstrip(",") + "}")
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _whole_values(text: str, start: int, separator: str) -> tuple[list[Any], int]:
    """The JSON objects from `start` on, up to the first that is not whole, and where they end."""
    decoder, position = json.JSONDecoder(), start
    values: list[Any] = []
    blanks = re.compile(rf"[\s{separator}]*")
    while True:
        match = blanks.match(text, position)
        at = match.end() if match else position
        try:
            value, position = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return values, position
        if not isinstance(value, dict):
            return values, at
        values.append(value)


def names(keys: Iterable[str], limit: int = 6) -> str:
    """A few keys for a message: `'a', 'b' and 3 more`."""
    listed = list(keys)
    shown = ", ".join(repr(key) for key in listed[:limit])
    return shown + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
