"""Decodes short records of many shapes together.

The records have scalars only, and their fields are in the usual order: time, step, summary. The
summaries of one tag differ in the bytes of the values only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridges.formats.events.content import Key, Part
from bridges.formats.events.crc32c import UInt8
from bridges.formats.events.messages import (
    STEP,
    SUMMARY,
    TENSOR_OF_SCALARS,
    WALL_TIME,
    parse_event,
)
from bridges.formats.events.tensors import SIZES, stored_dtype
from bridges.formats.events.tfrecord import HEADER, MAX_SHORT_BYTES
from bridges.stream.model import Int64

LEAST_BYTES = 20  # of the data of a record
MIN_ALIKE = 2  # records of one tag; a single one is parsed
TIME_BYTES, VARINT_BYTES = 9, 10  # of the field of the time, and of the longest step
BLOCK_BYTES = 1 << 18
Mask = NDArray[np.bool_]
Parts = list[tuple[Key, Part]]


class Records(NamedTuple):
    """Records (n each): the offset, the data's end, and the offset of the summary."""

    where: Int64
    end: Int64
    summary: Int64

    def take(self, chosen: Int64 | Mask) -> Records:
        """Some of the records."""
        return Records(self.where[chosen], self.end[chosen], self.summary[chosen])


class Form(NamedTuple):
    """The summary of the records of a tag, with zeros as values.

    `values`: the number of bytes from each value to the end.
    """

    keys: Sequence[Key]
    summary: bytes
    values: Sequence[int]


def read_mixed(data: bytes, where: Int64, length: Int64) -> tuple[Parts, Mask]:
    """The points of the records with these offsets and lengths, and a mask of these records.

    The CRCs of all records must be right.
    """
    buffer = np.frombuffer(data, np.uint8)
    usual, records = _usual(buffer, where, length)
    number, forms = _forms(data, buffer, records)
    is_read = np.zeros(len(where), bool)
    if not any(forms):
        return [], is_read
    same = _equal(buffer, records, number, forms)
    is_read[usual[same]] = True
    return [*_parts(data, records.take(same), number[same], forms)], is_read


def _usual(buffer: UInt8, where: Int64, length: Int64) -> tuple[Int64, Records]:
    """The positions of the records whose first fields are a time, a step or none, and a summary."""
    is_short = (length >= LEAST_BYTES) & (length <= MAX_SHORT_BYTES)
    chosen = is_short.nonzero()[0]
    body, end = where[chosen] + HEADER, where[chosen] + HEADER + length[chosen]
    summary = body + TIME_BYTES
    has_step = buffer[summary] == STEP
    more = buffer[summary[:, None] + np.arange(1, VARINT_BYTES + 1)] >= 0x80
    summary += has_step * (more.argmin(axis=1) + 2)
    is_usual = (buffer[body] == WALL_TIME) & (buffer[summary] == SUMMARY) & (end - summary > 10)
    records = Records(where[chosen], end, summary)
    return chosen[is_usual], records.take(is_usual)


def _forms(data: bytes, buffer: UInt8, records: Records) -> tuple[Int64, Sequence[Form | None]]:
    """The number of each record's tag, and the form of each tag with several records."""
    tag_end = np.minimum(records.summary + 6 + buffer[records.summary + 5], records.end)
    bounds = zip(records.summary.tolist(), tag_end.tolist(), strict=True)
    first: dict[bytes, int] = {}  # the first record of each tag
    firsts = [first.setdefault(data[at:end], n) for n, (at, end) in enumerate(bounds)]
    number_of = np.zeros(len(firsts), np.int64)
    number_of[[*first.values()]] = np.arange(len(first))
    number = number_of[firsts]
    counts = np.bincount(number, minlength=len(first)).tolist()
    forms = [
        _form(data, *(int(column[at]) for column in records)) if count >= MIN_ALIKE else None
        for at, count in zip(first.values(), counts, strict=True)
    ]
    return number, forms


def _form(data: bytes, where: int, end: int, summary: int) -> Form | None:
    """The form of a record; None if it has more than scalars."""
    body = where + HEADER
    event = parse_event(data[body:end])
    step = TIME_BYTES + 1 if summary > body + TIME_BYTES else -1
    tensors = {scalar.tag for scalar in event.scalars if scalar.origin == TENSOR_OF_SCALARS}
    is_known = all(tag in tensors for tag, _ in event.plugins)
    if not (event.is_columnar() and is_known) or (event.wall_time, event.step[0]) != (1, step):
        return None
    text = bytearray(data[summary:end])
    values = [end - body - scalar.at for scalar in event.scalars]
    for value, scalar in zip(values, event.scalars, strict=True):
        text[-value : len(text) - value + SIZES[scalar.kind]] = bytes(SIZES[scalar.kind])
    return Form([scalar[:3] for scalar in event.scalars], bytes(text), values)


def _equal(buffer: UInt8, records: Records, number: Int64, forms: Sequence[Form | None]) -> Mask:
    """Mask of the records whose summary has the form of its tag."""
    sizes = np.array([len(form.summary) if form else 0 for form in forms])
    width = int(sizes.max(initial=0))
    texts = b"".join((form.summary if form else b"").rjust(width, b"\0") for form in forms)
    masks = b"".join(map(_mask, forms, [width] * len(forms)))
    text, mask = (np.frombuffer(each, np.uint8).reshape(-1, width) for each in (texts, masks))
    same: Mask = records.end - records.summary == sizes[number]
    for block in _blocks(len(same), width):
        at = records.end[block, None] + np.arange(-width, 0)
        found = (buffer.take(at, mode="clip") ^ text[number[block]]) & mask[number[block]]
        same[block] &= ~found.any(axis=1)
    return same


def _mask(form: Form | None, width: int) -> bytes:
    """Ones for the bytes of a summary but those of the values."""
    if form is None:
        return bytes(width)
    ones = bytearray(b"\xff" * len(form.summary))
    for value, (_, kind, _) in zip(form.values, form.keys, strict=True):
        ones[-value : len(ones) - value + SIZES[kind]] = bytes(SIZES[kind])
    return bytes(ones.rjust(width, b"\0"))


def _parts(
    data: bytes, records: Records, number: Int64, forms: Sequence[Form | None]
) -> Iterator[tuple[Key, Part]]:
    """The points by key, in the order of the records."""
    order = number.argsort(kind="stable")
    where, end, summary = records.take(order)
    bounds = number[order].searchsorted(np.arange(len(forms) + 1)).tolist()
    time = _numbers(data, "<f8", where + HEADER + 1).view(np.float64)
    step = _steps(np.frombuffer(data, np.uint8), where + HEADER + TIME_BYTES, summary)
    for form, low, high in zip(forms, bounds[:-1], bounds[1:], strict=True):
        if form is None or low == high:
            continue
        own = slice(low, high)
        part = Part(where[own], step[own], step[:0], time[own])
        for key, value in zip(form.keys, form.values, strict=True):
            yield key, part._replace(raw=_numbers(data, stored_dtype(key[1]), end[own] - value))


def _numbers(data: bytes, dtype: str, where: Int64) -> NDArray[np.generic]:
    """The numbers at some offsets."""
    count = len(data) - np.dtype(dtype).itemsize + 1
    return np.ndarray(count, dtype, data, 0, (1,))[where]


def _steps(buffer: UInt8, field: Int64, summary: Int64) -> Int64:
    """The steps between the offsets of their fields and of the summaries; 0 where there is none."""
    step = np.empty(len(field), np.int64)
    places = np.arange(VARINT_BYTES)
    shifts = (7 * places).astype(np.uint64)
    for block in _blocks(len(step), 8 * VARINT_BYTES):
        first, stop = field[block, None] + 1, summary[block, None]
        bits = (buffer[first + places] & np.uint8(0x7F)).astype(np.uint64) << shifts
        bits[first + places >= stop] = 0
        step[block] = np.bitwise_or.reduce(bits, axis=1).view(np.int64)
    return step


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of records whose bytes fit the cache."""
    size = max(1, BLOCK_BYTES // max(1, width))
    return (slice(start, start + size) for start in range(0, count, size))
