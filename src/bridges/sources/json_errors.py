"""The errors for invalid JSON: position, content, expectation and remedy."""

from __future__ import annotations

import json
import re

from bridges.errors import SourceError
from bridges.sources.fetch import EXPECTED
from bridges.sources.text import SALVAGE_REMEDY
from bridges.stream.redact import redact_text

MAX_DEPTH = 200  # levels of nesting that the fast parser allows
_EXPECTED = {  # by message of the standard parser
    "Expecting ',' delimiter": "a comma or a closing bracket",
    "Expecting ':' delimiter": "a colon after the key",
    "Expecting property name enclosed in double quotes": "a key in double quotes",
    "Expecting value": "a value",
    "Extra data": "the end of the file",
    "Invalid \\escape": "a JSON escape, such as \\n or \\u00e9",
    "Invalid \\uXXXX escape": "four hexadecimal digits after \\u",
}
_TORN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.|(\.[0-9]+)?[eE][+-]?)")
_OF_NUMBER = re.compile(r"[-+.0-9eE]*\Z")
_TORN_ESCAPE = re.compile(r"\\?u?[0-9a-fA-F]{0,4}|u.{0,3}", re.DOTALL)
_WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_FIX = "Fix the file there: it is not valid JSON (NaN and Infinity are fine)."
_HINTS = (  # common errors: pattern at the error's position, description, remedy
    (r",\s*[\]}]", "a comma before the closing bracket", "Remove that comma."),
    (r"//|/\*|#", "a comment", "Remove it: JSON has no comments."),
    (
        r"'",
        "a single quote",
        "Write the file with json.dump: a printed Python dict is not JSON.",
    ),
    (r"(True|False|None)\b", "a Python constant", "Write true, false or null instead."),
    (r"(?i)[+-]?(nan|inf(inity)?)\b", "a misspelt number", "Write NaN, Infinity or -Infinity."),
    (r"[\x00-\x1f]", "a line break or control character inside a string", "Escape it."),
)


def decode(location: str, data: bytes, first_line: int = 1, *, more: bool = False) -> str:
    """The text of UTF-8 bytes. Raises SourceError with the position of the first invalid byte."""
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


def refused(
    location: str, text: str, error: json.JSONDecodeError, first_line: int, more: bool
) -> SourceError:
    """The error for a text that the standard parser rejects."""
    if _is_cut_off(text, error):
        return _cut_off(location, _place(text, error.pos, first_line), more)
    return _bad_json(location, text, error, first_line)


def _is_cut_off(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is valid but truncated."""
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
    """The error for a truncated text: the end of the file, or (`more`) an earlier line."""
    return SourceError(
        location,
        place=place,
        found=f"the end of the {'line' if more else 'file'} inside a value",
        expected="valid JSON",
        remedy="Remove that line: its save was cut off." if more else SALVAGE_REMEDY,
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
        position = len(before) - 1  # the comma, as in Python 3.13; before, it was the bracket
    found, expected, remedy = _explain(text, position, error.msg)
    place = _place(text, position, first_line)
    return SourceError(location, place=place, found=found, expected=expected, remedy=remedy)


def _explain(text: str, position: int, message: str) -> tuple[str, str, str]:
    """The found, expected and remedy parts of the error message."""
    shown = _shown(text, position)
    for pattern, found, remedy in _HINTS:
        if re.compile(pattern).match(text, position):
            return f"{found} ({shown})", "valid JSON", remedy
    if text[position - 1] == "0" and text[position].isdigit():
        return f"a number that begins with 0 ({shown})", "valid JSON", "Remove that 0."
    return shown, _EXPECTED.get(message, "valid JSON"), _FIX


def _shown(text: str, position: int) -> str:
    """The text from `position` to the end of its line, shortened, for a message."""
    line = text[position : position + 40].lstrip().partition("\n")[0]
    return repr(redact_text(line.rstrip()) or text[position])


def bad_number(location: str, text: str, first_line: int) -> SourceError:
    """The error for an integer that Python does not parse."""
    digits = re.search(r"\d{4301,}", text)
    return SourceError(
        location,
        place=_place(text, digits.start(), first_line) if digits else "",
        found=f"an integer of {len(digits[0]) if digits else 'too many'} digits",
        expected="numbers of at most 4300 digits",
        remedy="Fix that number.",
    )


def refuse_deep(location: str, message: str, first_line: int) -> None:
    """Raise SourceError if the fast parser rejected a text for its depth."""
    found = re.search(r"recursion limit.*line (\d+) column (\d+)", message)
    if found:
        line = int(found[1]) + first_line - 1
        raise too_deep(location, f"line {line}, column {found[2]}")


def too_deep(location: str, place: str) -> SourceError:
    """The error for values nested too deeply."""
    return SourceError(
        location,
        place=place,
        found=f"values nested more than {MAX_DEPTH} levels deep",
        expected=EXPECTED,
        remedy="This is not a log history: check which file you gave.",
    )
