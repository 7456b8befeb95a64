"""The rows of a run in Trackio: one for each call of `log`, its metrics as a JSON object.

JSON has neither NaN nor infinity: Trackio stores them as the texts `NaN`, `Infinity` and
`-Infinity`. A row has one time, so points of one row of the log that have different times make
several rows. `log_id` names the run and the row, so no row is stored twice.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from bridges import Layout, Recorded, Series, State, VerifyError
from bridges.exporters.recorded_rows import recorded_rows

INTEGERS = ("step", "row")
_AFTER_COLON = re.compile(":[^,]*")
STEP_KEY = "train/global_step"  # the live callback's
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
Int64 = NDArray[np.int64]
Row = tuple[str, int, str, int | str]  # time (ISO, microseconds), step, metrics, end of `log_id`


class RowTexts(NamedTuple):
    """Some rows of the file, column by column, with commas; `row` is the end of `log_id`."""

    size: int
    step: str
    time: str
    metrics: str
    row: str


@dataclass(frozen=True)
class StepRule:
    """How steps are stored.

    `has_key`: rows hold the global step under STEP_KEY; `by_row`: the step of a row is its index.
    """

    has_key: bool
    by_row: bool

    @classmethod
    def of(cls, style: str, options: Mapping[str, str]) -> StepRule:
        """The rule for a key style and layout options other than the defaults."""
        has_key = style != "tags" and "x-axis" not in options
        return cls(has_key, has_key and "trackio-step" not in options)


def prefix(run_id: str) -> str:
    """The beginning of the `log_id` of all rows of a run."""
    return f"bridges:{run_id}:"


def rows_of(layout: Layout, start: int) -> Iterator[Row]:
    """All rows of Trackio for the rows of a layout from `start` on."""
    stream, rule = layout.stream, StepRule.of(layout.run.key_style, layout.identity.options)
    parts = [series.slice(start, len(stream)) for series in (*stream.series, *layout.texts)]
    places = _Places.of(layout, start, parts, every=rule.has_key)
    steps = stream.step[places.row]
    columns = [*zip(places.of_parts, parts, strict=True)]
    if rule.has_key:
        every = np.arange(len(steps))
        columns.append((every, Series(STEP_KEY, every, steps)))
    return zip(
        np.datetime_as_string(places.time.view("datetime64[us]")).tolist(),
        (places.row if rule.by_row else steps).tolist(),
        _objects(columns, len(steps)),
        places.ids(),
        strict=True,
    )


def recorded(texts: Sequence[RowTexts], state: State) -> Recorded:
    """The content of stored rows. Raises VerifyError if they cannot be read."""
    rule = StepRule.of(state.style, state.layout)
    try:
        step, index = (_integers([getattr(some, name) for some in texts]) for name in INTEGERS)
        times = [time for some in texts for time in some.time.split(",")]
        time = np.array(times, "datetime64[us]").view(np.int64)
        found = [
            row for some in texts for row in from_json(f"[{some.metrics}]", cache_strings="keys")
        ]
        if rule.has_key:
            known = np.array([row.pop(STEP_KEY) for row in found], np.int64)
            if not np.array_equal(step, index if rule.by_row else known):
                raise ValueError("the steps of its rows were changed")
            step = known
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VerifyError(f"a row of the run cannot be read: {error}") from error
    return recorded_rows(found, step, time / 1e6, SPECIAL)


def _integers(texts: Sequence[str]) -> Int64:
    """The numbers before a colon, if any, of texts with commas."""
    plain = [_AFTER_COLON.sub("", text) if ":" in text else text for text in texts]
    return np.array([number for text in plain for number in from_json(f"[{text}]")], np.int64)


@dataclass(frozen=True)
class _Places:
    """The rows of Trackio (n) for points of a layout.

    `row`: row in the stream; `number`: among those of the same row in the stream; `time`:
    microseconds since 1970 UTC; `of_parts`: the row of each point, part by part.
    """

    row: Int64
    number: Int64
    time: Int64
    of_parts: Sequence[Int64]

    @classmethod
    def of(cls, layout: Layout, start: int, parts: Sequence[Series], *, every: bool) -> _Places:
        """The places; `every` row of the stream has one, also without values."""
        stream = layout.stream
        assert stream.time is not None
        if every and all(part.time is None for part in parts):
            row = np.arange(start, len(stream))
            known = [part.rows - start for part in parts]
            return cls(row, np.zeros(len(row), np.int64), stream.time[start:], known)
        rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)])
        times = np.concatenate([np.empty(0, np.int64), *(stream.times(part) for part in parts)])
        if every:  # rows without values, too
            bare = np.setdiff1d(np.arange(start, len(stream)), rows)
            rows, times = np.append(rows, bare), np.append(times, stream.time[bare])
        order = np.lexsort((times, rows))
        row, time = rows[order], times[order]
        is_first = np.ones(len(row), bool)
        is_first[1:] = (row[1:] != row[:-1]) | (time[1:] != time[:-1])
        at = np.empty(len(row), np.int64)
        at[order] = np.cumsum(is_first) - 1
        ends = np.cumsum([len(part.rows) for part in parts])
        row, time = row[is_first], time[is_first]
        number = np.arange(len(row)) - np.searchsorted(row, row)
        return cls(row, number, time, np.split(at, ends)[: len(parts)])

    def ids(self) -> list[int] | list[str]:
        """The end of the `log_id` of each row: ROW, or ROW:NUMBER."""
        rows: list[int] = self.row.tolist()
        if not self.number.any():
            return rows
        pairs = zip(rows, self.number.tolist(), strict=True)
        return [f"{row}:{number}" if number else f"{row}" for row, number in pairs]


def _objects(columns: Sequence[tuple[Int64, Series]], count: int) -> list[str]:
    """JSON objects made of series, each with the places of its values."""
    keys = [f"{json.dumps(series.key, ensure_ascii=False)}:" for _, series in columns]
    if columns and all(len(places) == count for places, _ in columns):  # the usual case
        template = "{" + ",".join(f"{key.replace('%', '%%')}%s" for key in keys) + "}"
        lines = zip(*(_texts(series) for _, series in columns), strict=True)
        return [template % line for line in lines]
    found: list[list[str]] = [[] for _ in range(count)]
    for key, (places, series) in zip(keys, columns, strict=True):
        for place, text in zip(places.tolist(), _texts(series), strict=True):
            found[place].append(key + text)
    return ["{" + ",".join(line) + "}" for line in found]


def _texts(series: Series) -> list[str]:
    """The values as JSON."""
    values = series.values.tolist()
    if not values:
        return []
    if not series.is_number:
        return [json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values]
    texts = to_json(values, inf_nan_mode="constants")[1:-1].decode().split(",")
    if series.values.dtype.kind == "f":
        for row in np.flatnonzero(~np.isfinite(series.values)).tolist():
            texts[row] = f'"{texts[row]}"'
    return texts
