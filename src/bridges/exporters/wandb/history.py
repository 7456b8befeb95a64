"""History rows of a W&B run, from the columns of a stream to records.

A row holds the logged values, the step under one of `STEP_KEYS`, and wandb's own values: `_step`
(the index of the row), `_timestamp` and `_runtime` in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bridges.formats.protobuf import varint
from bridges.formats.wandb_log.batch import (
    Batch,
    Column,
    assemble,
    number_texts,
    object_texts,
    row_sizes,
    varint_texts,
)
from bridges.formats.wandb_log.log import CHUNK_HEADER, text
from bridges.stream.layout import Layout
from bridges.stream.model import Int64, Values

STEP_KEYS = ("train/global_step", "global_step")  # of the Trainer's runs, and of tags
OWN = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})
VALUE_TAG = b"\x82\x01"  # field 16, a text: the value of an item as JSON


def history_records(layout: Layout, first: int, number: int) -> Batch:
    """The history records from row `first` of the stream on; `number` is the first record's.

    Each record leaves room for its chunk header.
    """
    count = len(layout.stream) - first
    every = np.arange(count)
    row = [*_columns(layout, first), _step_column(wandb_steps(layout)[first:])]
    sizes = row_sizes(row, count)
    head = [
        Column(every, lambda _: bytes(CHUNK_HEADER) + b"\x08", varint_texts(every + number)),
        Column(every, lambda _: b"\x12", varint_texts(sizes)),
    ]
    return assemble([*head, *row], row_sizes(head, count) + sizes)


def _columns(layout: Layout, first: int) -> Iterator[Column]:
    stream = layout.stream
    assert stream.time is not None
    for series in stream.series:
        part = series.slice(first, len(stream))
        make = number_texts if part.is_number else object_texts
        yield Column(part.rows - first, _before(part.key), make(part.values.tolist()))
    time = stream.time[first:]
    for key, values in (
        (layout.naming.step_key, stream.step[first:]),
        ("_step", wandb_steps(layout)[first:]),
        ("_timestamp", time / 1e6),
        ("_runtime", (time - layout.clock.start) / 1e6),
    ):
        yield Column(np.arange(len(time)), _before(key), number_texts(values.tolist()))


def _before(key: str) -> Callable[[int], bytes]:
    """The bytes before the value of an item, as a function of the value's size."""
    name = text(1, key) + VALUE_TAG

    def before(size: int) -> bytes:
        length = varint(size)
        return b"\x0a" + varint(len(name) + len(length) + size) + name + length

    return before


def _step_column(steps: Int64) -> Column:
    """Field 2 of a row: a message with the step in field 1."""
    texts = varint_texts(steps)
    return Column(np.arange(len(steps)), lambda size: b"\x12" + varint(1 + size) + b"\x08", texts)


def wandb_steps(layout: Layout) -> Int64:
    """`_step` of each row (int64, n), strictly increasing: `wandb sync` renumbers other rows.

    `_step` is the row index, as with the live callback, or the global step of merged rows.
    """
    is_merged = layout.identity.options.get("wandb-step") == "global_step"
    return layout.stream.step if is_merged else np.arange(len(layout.stream))


def last_values(layout: Layout) -> dict[str, object]:
    """The summary: the last value of each key, and the callback's own values."""
    last: dict[str, tuple[int, object]] = {}
    for series in layout.stream.series:
        if len(series.rows):
            row, value = int(series.rows[-1]), series.values.tolist()[-1]
            if row >= last.get(series.key, (0, None))[0]:
                last[series.key] = (row, value)
    values = {key: value for key, (_, value) in last.items() if value is not None}
    return {**values, **layout.summary}


def as_float64(values: Values) -> Values:
    """Numbers as float64, for comparison."""
    return np.asarray(values, np.float64)
