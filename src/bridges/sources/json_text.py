"""JSON as Python writes it: NaN and Infinity allowed, int64 exact, places of errors, salvage.

The fast parser reads what is right; whatever it refuses, or where a key may stand twice, the
standard library's parser reads again, slowly, and knows the place.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np
from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources.text import EXPECTED
from bridges.sources.text import SALVAGE_REMEDY as SALVAGE_REMEDY
from bridges.sources.text_density import SMALL_BYTES, too_many_values
from bridges.stream.finding import Finding, Severity
from bridges.stream.redact import redact_text

_COLON = ord(":")
_ROWS_PER_BATCH = 1000  # that are salvaged at once
Repeated = Counter[str]  # how often a key stands again in its object
MAX_KEYS = 20_000  # a log has a few hundred at most, and each is a curve in every target
_USUAL_KEYS = 100  # of an object, on average
MAX_DEPTH = 200  # levels of nesting: the limit of the fast parser
_NOT_BLANK = re.compile(rb"\S")
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
_TORN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.|(\.[0-9]+)?[eE][+-]?)")
_OF_NUMBER = re.compile(r"[-+.0-9eE]*\Z")
_TORN_ESCAPE = re.compile(r"\\?u?[0-9a-fA-F]{0,4}|u.{0,3}", re.DOTALL)
_WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_FIX = "Fix the file there: it is not valid JSON (NaN and Infinity are fine)."
_HINTS = (  # what often stands at the place of the error, and what to do about it
    (r",\s*[\]}]", "a comma before the closing bracket", "Take that comma out."),
    (r"//|/\*|#", "a comment", "Take it out: JSON has no comments."),
    (
        r"'",
        "a single quote",
        "Write the file with json.dump: a printed Python dict is not JSON.",
    ),
    (r"(True|False|None)\b", "a Python constant", "Write true, false or null instead."),
    (r"(?i)[+-]?(nan|inf(inity)?)\b", "a misspelt number", "Write NaN, Infinity or -Infinity."),
    (r"[\x00-\x1f]", "a line break or control character inside of a string", "Escape it."),
)


def parse(
    location: str, data: bytes, first_line: int = 1, *, more: bool = False
) -> tuple[object, Repeated]:
    """The JSON value of the text, and how often each key stands again in an object.

    `first_line` is the number of its first line in the file; `more` tells that lines follow it.
    """
    if len(data) > SMALL_BYTES:
        _check_syntax(location, data, first_line, more)
        refuse_heavy(location, data)
    try:
        value = from_json(data, cache_strings="keys")
    except ValueError as error:
        _refuse_deep(location, str(error), first_line)
        return _parse_slowly(location, data, first_line, more)
    if may_repeat_a_key(data, value):
        return _parse_slowly(location, data, first_line, more)
    return value, Repeated()


def is_lines(data: bytes) -> bool:
    """Whether a text is JSON lines: its first line is an object, and more follows."""
    begun = _NOT_BLANK.search(data)
    end = data.find(b"\n", begun.start()) if begun and begun[0] == b"{" else -1
    if not begun or end < 0 or _NOT_BLANK.search(data, end) is None:
        return False
    line = data[begun.start() : end].rstrip(b" \t\r")
    if not line.endswith(b"}"):
        return False
    return b'"log_history"' not in line or _is_json(line)  # else a state on several lines


def _is_json(data: bytes) -> bool:
    try:
        from_json(data)
    except ValueError:
        return False
    return True


def parse_each_line(
    location: str, data: bytes, first_line: int = 1, *, more: bool = False
) -> tuple[list[object], Repeated]:
    """The values of all lines that are not blank. Raises SourceError with the line's number.

    `first_line` is the number of the first one in the file; `more` tells that lines follow.
    """
    lines = [line for line in data.split(b"\n") if line.strip()]
    try:
        rows = from_json(b"[" + b",".join(lines) + b"]", cache_strings="keys")
        if len(rows) == len(lines) and not may_repeat_a_key(data, rows):
            return rows, Repeated()
    except ValueError:
        pass  # line by line the place is known
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
    """The lines that are not blank, in parts of about `size` bytes: numbers, values, repeated keys.

    Raises SourceError with the line's number.
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
    """Refuse a part of a text with a very long row that takes far more memory than its bytes."""
    refuse_heavy(location, data, start, end, place=place)
    if end - start <= SMALL_BYTES:
        return
    keys, objects = data.count(b'":', start, end), data.count(b"{", start, end)
    if keys > max(MAX_KEYS, _USUAL_KEYS * objects):  # not a history of many rows within one line
        raise too_many_keys(location, keys, place)


def too_many_keys(location: str, count: int, place: str = "") -> SourceError:
    """The error for rows with more keys than any log has."""
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
    """Refuse a part of a text that takes far more memory than its bytes if parsed at once."""
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
    """False only if every entry of the text is an entry of the value.

    Each entry has one colon, so the text has no more entries than colons. Where strings hold
    colons too, the quotes before colons are counted: one can only end a key or stand in a string,
    unless blanks stand between the two.
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
    """How many object entries a parsed history has, as far as nesting is usual."""
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
        raise _refused(location, text, error, first_line, more) from None
    except RecursionError:
        raise _too_deep(location, "") from None
    except ValueError:  # an integer of more than 4,300 digits
        raise _bad_number(location, text, first_line) from None
    return value, repeated


def _check_syntax(location: str, data: bytes, first_line: int, more: bool) -> None:
    """Raise the SourceError of the first error in the grammar of a text, without its objects."""
    text = decode(location, data, first_line, more=more)
    try:
        with suppress(RecursionError):  # the fast parser knows the place of what is too deep
            json.loads(
                text,
                object_pairs_hook=_nothing,
                parse_int=_nothing,
                parse_float=_nothing,
                parse_constant=_nothing,
            )
    except json.JSONDecodeError as error:
        raise _refused(location, text, error, first_line, more) from None


def _nothing(value: object) -> None:
    return None


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


def _refused(
    location: str, text: str, error: json.JSONDecodeError, first_line: int, more: bool
) -> SourceError:
    """The error of a text that the standard parser refuses."""
    if _is_cut_off(text, error):
        return _cut_off(location, _place(text, error.pos, first_line), more)
    return _bad_json(location, text, error, first_line)


def _is_cut_off(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is right as far as it goes."""
    if error.msg.startswith("Unterminated string"):
        return True
    rest = text[error.pos : error.pos + 12]
    if not rest.strip():
        return not text[error.pos :].strip()
    if error.msg == "Expecting value":
        return any(word.startswith(rest) for word in _WORDS)
    if error.msg.startswith("Invalid"):
        return _TORN_ESCAPE.fullmatch(rest) is not None
    number = _OF_NUMBER.search(text, max(0, error.pos - 400), error.pos)
    return number is not None and _TORN_NUMBER.fullmatch(number[0] + rest) is not None


def _cut_off(location: str, place: str, more: bool) -> SourceError:
    """A text that ends too early, as the last line of its file or (`more`) before others."""
    return SourceError(
        location,
        place=place,
        found=f"the end of the {'line' if more else 'file'} inside of a value",
        expected="valid JSON",
        remedy="Take that line out: its save was cut off." if more else SALVAGE_REMEDY,
    )


def _bad_json(
    location: str, text: str, error: json.JSONDecodeError, first_line: int
) -> SourceError:
    position = error.pos
    if not text[:position].strip():
        return SourceError(
            location,
            place=_place(text, position, first_line),
            found=f"text that is not JSON ({_shown(text, position)})",
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
    return shown, _EXPECTED.get(message, "valid JSON"), _FIX


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
        remedy="Fix that number.",
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
        found=f"values nested more than {MAX_DEPTH} levels deep",
        expected=EXPECTED,
        remedy="This is not a log history: check which file you gave.",
    )


def repeated_keys(repeated: Repeated) -> list[Finding]:
    """A finding for each key that stands twice in an object."""
    message = "the key stands twice in one object; its last value counts, as in Python's json"
    return [
        Finding("duplicate-key", Severity.WARNING, f"key {key!r}", message, count)
        for key, count in repeated.items()
    ]


def salvage(
    location: str, data: bytes, add: Callable[[list[object]], object]
) -> tuple[dict[str, object] | None, Finding]:
    """Header (None for bare rows) of a text that ends too early; `add` gets its whole rows.

    Raises SourceError where it has none.
    """
    text = decode(location, _whole_characters(data))
    found = _HISTORY.search(text)
    header = _header(text[: found.start()]) if found else None
    if found:
        start, separator = found.end(), ","
    else:
        opened = text.lstrip().startswith("[")
        start, separator = (text.index("[") + 1, ",") if opened else (0, "")
    count, end = 0, start
    for rows, stop in _whole_values(text, start, separator):
        count, end = count + len(rows), stop
        add(rows)
    if not count:
        raise SourceError(
            location,
            found="a file that ends before its first whole log row",
            expected=EXPECTED,
            remedy="Nothing can be salvaged: use an earlier checkpoint's file.",
        )
    lost = len(text) - end
    message = f"the file ends too early: {count} whole rows are read, {lost} characters lost"
    return header, Finding("salvaged", Severity.WARNING, f"row {count - 1}", message)


def first_row(location: str, data: bytes) -> object:
    """The first log row of a text that may end too early. Raises SourceError for none."""
    start = _FIRST_ROW.search(data)
    if start:
        with suppress(ValueError, RecursionError):
            text = data[start.end() - 1 :].decode(errors="ignore")
            return json.JSONDecoder().raw_decode(text)[0]
    rows: list[object] = []
    salvage(location, data, rows.extend)
    return rows[0]


def _whole_characters(data: bytes) -> bytes:
    """Without the last character where its bytes are not all there."""
    for cut in range(1, 4):
        if len(data) >= cut and data[-cut] >= 0xC0:
            return data[:-cut]
    return data


def _header(text: str) -> dict[str, object]:
    """The entries before `log_history`, which the text ends with."""
    try:
        header = json.loads(text.rstrip().rstrip(",") + "}")
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _whole_values(text: str, start: int, separator: str) -> Iterator[tuple[list[object], int]]:
    """The JSON objects from `start` on, up to the first that is not whole, in parts; and where each
    part ends.
    """
    decoder, position = json.JSONDecoder(), start
    values: list[object] = []
    blanks = re.compile(rf"[\s{separator}]*")
    while True:
        match = blanks.match(text, position)
        at = match.end() if match else position
        try:
            value, position = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        if not isinstance(value, dict):
            position = at
            break
        values.append(value)
        if len(values) == _ROWS_PER_BATCH:
            yield values, position
            values = []
    yield values, position


def names(keys: Iterable[str], limit: int = 6) -> str:
    """A few keys for a message: `'a', 'b' and 3 more`."""
    listed = list(keys)
    shown = ", ".join(repr(key) for key in listed[:limit])
    return shown + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
