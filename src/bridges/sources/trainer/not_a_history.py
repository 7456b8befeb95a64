"""Errors for JSON that is not a log history; they describe its content."""

from __future__ import annotations

from collections.abc import Mapping

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.fetch import EXPECTED
from bridges.stream.redact import redact_text


class OtherFileError(SourceError):
    """A complete file that is not a history."""


_POSITION_KEYS = ("step", "epoch")
_REMEDY = "This is another file: look for the trainer_state.json in a Trainer's output directory."


def stepless(location: str, first: Mapping[str, object]) -> SourceError:
    """The error for objects without any step, such as a dataset or concatenated states."""
    return OtherFileError(
        location,
        found=f"no 'step' in any of its rows (the first has {_keys(first)})",
        expected=EXPECTED,
        remedy=_REMEDY,
    )


def nested(location: str, first: Mapping[str, object]) -> SourceError:
    """The error for rows that nest their metrics, as other tools write them: `{"step", "data"}`."""
    key, value = next((key, value) for key, value in first.items() if key not in _POSITION_KEYS)
    return SourceError(
        location,
        place="log row 0",
        found=f"{describe(value)} under {key!r}, and no metric beside it in any row",
        expected="rows with their metrics beside 'step', as in a 'log_history'",
        remedy=f"Move the entries of {key!r} up into its row.",
    )


def _keys(value: Mapping[str, object]) -> str:
    return f"the keys {json_text.names(value)}" if value else "no keys"


def not_a_history(location: str, value: object) -> SourceError:
    """The error for JSON of any other shape."""
    if isinstance(value, dict):
        found = f"a JSON object without 'log_history' ({_keys(value)})"
    else:
        found = f"a JSON document that is {describe(value)}"
    return OtherFileError(
        location,
        found=found,
        expected=EXPECTED,
        remedy=_REMEDY,
    )


def describe(value: object) -> str:
    """A JSON value for a message: its type and the first 60 characters."""
    kinds = {bool: "the boolean", str: "the text", int: "the integer", float: "the number"}
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"an object with {len(value)} key{'s' * (len(value) != 1)}"
    if isinstance(value, list):
        return f"a list of {len(value)} value{'s' * (len(value) != 1)}"
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{kinds.get(type(value), 'the value')} {redact_text(shown)[:60]}"
