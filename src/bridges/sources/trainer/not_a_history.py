"""JSON that is not a log history: refused with what it holds instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridges.errors import SourceError
from bridges.sources import json_text
from bridges.sources.text import EXPECTED
from bridges.stream.redact import redact_text


class OtherFileError(SourceError):
    """A whole file that holds something else than a history."""


_PLACE = ("step", "epoch")
_REMEDY = "This is another file: look for the trainer_state.json of a Trainer's output."


def stepless(location: str, first: Mapping[str, Any]) -> SourceError:
    """The error for objects of which none has a step: a data set, joined states."""
    return OtherFileError(
        location,
        found=f"no 'step' in any of its rows (the first has {_keys(first)})",
        expected=EXPECTED,
        remedy=_REMEDY,
    )


def nested(location: str, first: Mapping[str, Any]) -> SourceError:
    """The error for rows without a value of their own, as other tools write: `{"step", "data"}`."""
    key, value = next((key, value) for key, value in first.items() if key not in _PLACE)
    return SourceError(
        location,
        place="log row 0",
        found=f"{describe(value)} under {key!r}, and no metric beside it in any row",
        expected="rows that hold their metrics beside 'step', as those of a 'log_history'",
        remedy=f"Move what is under {key!r} up into its row.",
    )


def _keys(value: Mapping[str, Any]) -> str:
    return f"the keys {json_text.names(value)}" if value else "no keys"


def not_a_history(location: str, value: Any) -> SourceError:
    """The error for JSON of another shape."""
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


def describe(value: Any) -> str:
    """A JSON value for a message: its kind and its beginning."""
    kinds = {bool: "the boolean", str: "the text", int: "the integer", float: "the number"}
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"an object with {len(value)} key{'s' * (len(value) != 1)}"
    if isinstance(value, list):
        return f"a list of {len(value)} value{'s' * (len(value) != 1)}"
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{kinds.get(type(value), 'the value')} {redact_text(shown)[:60]}"
