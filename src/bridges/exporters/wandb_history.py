"""History rows of a W&B run, column by column: from the series of a stream to items of JSON.

A row holds what the callback logged, `train/global_step`, and what wandb adds to each row: `_step`
(the index of the row), `_timestamp` and `_runtime` in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from bridges.exporters.wandb_log import text, varint
from bridges.stream.layout import Layout
from bridges.stream.model import Int64, Series

GLOBAL_STEP = "train/global_step"
OWN = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})
VALUE_TAG = b"\x82\x01"  # field 16, a text: the value of an item as JSON
_STEP_TAG = b"\x12"  # field 2, a message: the step of a row, its field 1


def history_rows(layout: Layout, first: int = 0) -> Iterator[bytes]:
    """The contents of the history records, row by row, from a row of the stream on."""
    stream = layout.stream
    assert stream.time is not None
    count, time = len(stream) - first, stream.time[first:]
    columns = []
    for series in stream.series:
        part = series.slice(first, len(stream))
        columns.append(_spread(part.rows - first, _items(part.key, json_texts(part)), count))
    steps = wandb_steps(layout)[first:].tolist()
    for key, values in (
        (GLOBAL_STEP, stream.step[first:].tolist()),
        ("_step", steps),
        ("_timestamp", (time / 1000.0).tolist()),
        ("_runtime", ((time - layout.clock.start) / 1000.0).tolist()),
    ):
        columns.append(_items(key, _numbers(values)))
    columns.append([_STEP_TAG + varint(1 + len(v)) + b"\x08" + v for v in map(varint, steps)])
    return map(b"".join, zip(*columns, strict=True))


def wandb_steps(layout: Layout) -> Int64:
    """`_step` of each row (int64, n): its index as live, or its global step where rows are merged;
    strictly rising in any case, or `wandb sync` would number the rows anew.
    """
    is_merged = layout.identity.get("wandb-step") == "global_step"
    return layout.stream.step if is_merged else np.arange(len(layout.stream))


def _spread(rows: Int64, items: list[bytes], count: int) -> list[bytes]:
    """The items at their rows, nothing at the others."""
    if len(items) == count:
        return items
    column = [b""] * count
    for row, item in zip(rows.tolist(), items, strict=True):
        column[row] = item
    return column


def _items(key: str, values: list[bytes]) -> list[bytes]:
    """One item for each value; what comes before it depends on its length only."""
    name = text(1, key) + VALUE_TAG
    sizes = list(map(len, values))
    before = {}
    for size in set(sizes):
        length = varint(size)
        before[size] = b"\x0a" + varint(len(name) + len(length) + size) + name + length
    return [before[size] + value for size, value in zip(sizes, values, strict=True)]


def json_texts(series: Series) -> list[bytes]:
    """The values as JSON: exact, with NaN and Infinity as wandb writes them."""
    values = series.values.tolist()
    if series.is_number:
        return _numbers(values)
    return [json.dumps(value, sort_keys=True).encode() for value in values]


def _numbers(values: list[Any]) -> list[bytes]:
    return to_json(values)[1:-1].split(b",") if values else []


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
