"""History rows of a W&B run: items of JSON, column by column, and back to columns.

A row holds what the callback logged, `train/global_step`, and what wandb adds to each row: `_step`
(the index of the row), `_timestamp` and `_runtime` in seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.base import Points, Recorded
from bridges.exporters.wandb_log import (
    LogError,
    fields,
    integer,
    message,
    read_varint,
    text,
    varint,
)
from bridges.stream.layout import Layout
from bridges.stream.model import Int64, Series

GLOBAL_STEP = "train/global_step"
OWN = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})
_VALUE = b"\x82\x01"  # field 16, a text: the value of an item as JSON


def history_records(layout: Layout) -> Iterator[bytes]:
    """The contents of the history records, row by row."""
    stream = layout.stream
    assert stream.time is not None
    count = len(stream)
    columns = [_spread(series.rows, _items(series.key, json_texts(series)), count)
               for series in stream.series]  # fmt: skip
    for key, values in (
        (GLOBAL_STEP, stream.step.tolist()),
        ("_step", list(range(count))),
        ("_timestamp", (stream.time / 1000.0).tolist()),
        ("_runtime", ((stream.time - layout.clock.start) / 1000.0).tolist()),
    ):
        columns.append(_items(key, list(map(repr, values))))
    columns.append([message(2, integer(1, index)) for index in range(count)])
    return map(b"".join, zip(*columns, strict=True))


def _spread(rows: Int64, items: list[bytes], count: int) -> list[bytes]:
    """The items at their rows, nothing at the others."""
    if len(items) == count:
        return items
    column = [b""] * count
    for row, item in zip(rows.tolist(), items, strict=True):
        column[row] = item
    return column


def _items(key: str, values: list[str]) -> list[bytes]:
    """One item for each value; what comes before it depends on its length only."""
    encoded = "\n".join(values).encode("utf-8", "replace").split(b"\n")  # JSON has no line breaks
    name = text(1, key) + _VALUE
    before = {}
    for size in set(map(len, encoded)):
        length = varint(size)
        before[size] = b"\x0a" + varint(len(name) + len(length) + size) + name + length
    return [before[len(value)] + value for value in encoded[: len(values)]]


def json_texts(series: Series) -> list[str]:
    """The values as JSON: exact, with NaN and Infinity as wandb writes them."""
    values = series.values.tolist()
    if series.values.dtype == np.float64:
        if np.isfinite(series.values).all():
            return list(map(repr, values))
        return [repr(v) if math.isfinite(v) else json.dumps(v) for v in values]
    if series.values.dtype == np.int64:
        return list(map(str, values))
    return [json.dumps(value, sort_keys=True) for value in values]


def read_rows(records: Iterable[bytes]) -> Recorded:
    """The points of history records (contents): a step of a point is its `train/global_step`.

    Raises LogError where a row cannot be read, or lacks its step or time.
    """
    columns: dict[bytes, tuple[list[int], list[bytes]]] = {}
    for index, record in enumerate(records):
        for key, value in _items_of(record):
            column = columns.get(key)
            if column is None:
                column = columns[key] = ([], [])
            column[0].append(index)
            column[1].append(value)
    try:
        found = {key.decode(): (rows, _parsed(texts)) for key, (rows, texts) in columns.items()}
        steps = dict(zip(*found.pop(GLOBAL_STEP, ([], [])), strict=True))
        times = dict(zip(*found.pop("_timestamp", ([], [])), strict=True))
        return _recorded(found, steps, times)
    except (ValueError, KeyError) as error:
        raise LogError(f"a row of its history cannot be read: {error}") from None


def _parsed(texts: list[bytes]) -> list[Any]:
    """Many JSON values at once."""
    values: list[Any] = json.loads(b"[%s]" % b",".join(texts))
    return values


def _items_of(record: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and JSON of each item; short ones, the usual case, without reading field by field."""
    at, end = 0, len(record)
    while at < end and record[at] == 0x0A:
        size = record[at + 1]
        start = at + 2
        if size < 0x80 and record[start] == 0x0A:
            name_end = start + 2 + record[start + 1]
            if record[name_end : name_end + 2] == _VALUE:  # its length takes one byte
                yield record[start + 2 : name_end], record[name_end + 3 : start + size]
                at = start + size
                continue
        size, start = read_varint(record, at + 1)
        item = dict(fields(record[start : start + size]))
        key, value = item.get(1, b""), item.get(16, b"null")
        if isinstance(key, bytes) and isinstance(value, bytes):
            yield key, value
        at = start + size


def _recorded(
    found: dict[str, tuple[list[int], list[Any]]], steps: dict[int, Any], times: dict[int, Any]
) -> Recorded:
    points, others = {}, []
    for key, (rows, values) in found.items():
        if key in OWN:
            continue
        numbers = [isinstance(value, (bool, int, float)) for value in values]
        if not all(numbers):
            pairs = list(zip(rows, values, numbers, strict=True))
            others += [(key, int(steps[row]), value) for row, value, is_it in pairs if not is_it]
            rows = [row for row, _, is_it in pairs if is_it]
            values = [value for _, value, is_it in pairs if is_it]
        if rows:
            points[key] = Points(
                np.array([steps[row] for row in rows], np.int64),
                np.array(values, np.float64),
                np.array([times[row] for row in rows], np.float64),
            )
    return Recorded(points, tuple(others))


def last_values(layout: Layout) -> dict[str, Any]:
    """The summary: the last value of each key, and what the callback puts there itself."""
    last: dict[str, tuple[int, Any]] = {}
    for series in layout.stream.series:
        if len(series.rows):
            row, value = int(series.rows[-1]), series.values.tolist()[-1]
            if row >= last.get(series.key, (0, None))[0]:
                last[series.key] = (row, value)
    values = {key: value for key, (_, value) in last.items() if value is not None}
    return {**values, **layout.summary}


def stored(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers as they are compared: float64."""
    return np.asarray(values, np.float64)
