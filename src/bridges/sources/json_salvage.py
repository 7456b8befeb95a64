"""The complete rows of a truncated JSON text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from bridges.errors import SourceError
from bridges.sources.fetch import EXPECTED
from bridges.sources.json_errors import decode
from bridges.stream.finding import Finding, Severity

_ROWS_PER_BATCH = 1000
_FIRST_ROW = re.compile(rb'"log_history"\s*:\s*\[\s*\{')
_HISTORY = re.compile(r'"log_history"\s*:\s*\[')


def salvage(
    location: str, data: bytes, add: Callable[[list[object]], object]
) -> tuple[dict[str, object] | None, Finding]:
    """Read a truncated text: passes its complete rows to `add` in batches.

    Returns the fields before the rows (None for bare rows) and a finding. Raises SourceError if it
    has no complete row.
    """
    text = decode(location, _complete_characters(data))
    found = _HISTORY.search(text)
    header = _header(text[: found.start()]) if found else None
    if found:
        start, separator = found.end(), ","
    else:
        opened = text.lstrip().startswith("[")
        start, separator = (text.index("[") + 1, ",") if opened else (0, "")
    count, end = 0, start
    for rows, stop in _complete_objects(text, start, separator):
        count, end = count + len(rows), stop
        add(rows)
    if not count:
        raise SourceError(
            location,
            found="a file that ends before its first complete log row",
            expected=EXPECTED,
            remedy="Nothing can be salvaged: use an earlier checkpoint's file.",
        )
    lost = len(text) - end
    message = f"the file ends too early: {count} complete rows are read, {lost} characters lost"
    return header, Finding("salvaged", Severity.WARNING, f"row {count - 1}", message)


def first_row(location: str, data: bytes) -> object:
    """The first log row of a text that may be truncated. Raises SourceError if it has none."""
    start = _FIRST_ROW.search(data)
    if start:
        with suppress(ValueError, RecursionError):
            text = data[start.end() - 1 :].decode(errors="ignore")
            return json.JSONDecoder().raw_decode(text)[0]
    rows: list[object] = []
    salvage(location, data, rows.extend)
    return rows[0]


def _complete_characters(data: bytes) -> bytes:
    """The data without a truncated last UTF-8 character."""
    for cut in range(1, 4):
        if len(data) >= cut and data[-cut] >= 0xC0:
            return data[:-cut]
    return data


def _header(text: str) -> dict[str, object]:
    """The fields before `log_history`, from the text up to that key."""
    try:
        header = json.loads(text.rstrip().rstrip(",") + "}")
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _complete_objects(text: str, start: int, separator: str) -> Iterator[tuple[list[object], int]]:
    """The JSON objects from `start` up to the first incomplete one, in batches with end offsets."""
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
