"""The reader returns exactly what event files hold, ours and foreign, and no damage escapes it."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboardX import SummaryWriter

from bridges.formats.events import proto
from bridges.formats.events.content import EventBytes, EventFile
from bridges.formats.events.reader import (
    BLOCK_RECORDS,
    MIN_COLUMNAR_RECORDS,
    decode,
    decode_many,
    first_texts,
)
from bridges.formats.events.shapes import Rows, Shape
from bridges.formats.events.tfrecord import EventFileError
from bridges.formats.events.writer import ScalarColumn, as_float32, scalar_records
from bridges.formats.protobuf import double, sized
from tests.bounds import processor_seconds
from tests.integration.exporters.tensorboard.support import (
    SCALARS,
    STEPS,
    TAGS,
    WALL_TIMES,
    float32_of,
    record_bounds,
)

Point = tuple[int, bytes, bytes]


def points(file: EventFile) -> dict[str, list[Point]]:
    """The points of each tag by position in the file: step, bits of value and of wall time."""
    out = {}
    for tag, parts in file.scalars.items():
        listed = [
            (offset, (step, struct.pack("<f", value), struct.pack("<d", seconds)))
            for part in parts
            for offset, step, value, seconds in zip(
                part.offset.tolist(),
                part.step.tolist(),
                part.value,
                part.wall_time.tolist(),
                strict=True,
            )
        ]
        out[tag] = [point for _, point in sorted(listed, key=lambda item: item[0])]
    return out


# --- what was written -------------------------------------------------------------------------

Record = tuple[int, float, list[tuple[str, float]], list[tuple[str, str]]]
_records = st.lists(
    st.tuples(
        STEPS,
        WALL_TIMES,
        st.lists(st.tuples(TAGS, SCALARS), max_size=3, unique_by=lambda pair: pair[0]),
        st.lists(st.tuples(TAGS, st.text(st.characters(codec="utf-8"), max_size=20)), max_size=2),
    ),
    max_size=12,
)


@given(_records, st.floats(0, 1e10))
@settings(max_examples=200)
def test_any_records_come_back(records: list[Record], start: float) -> None:
    data = proto.frame(proto.file_version_event(start))
    want: dict[str, list[Point]] = {}
    texts = []
    for step, seconds, scalars, lines in records:
        values = [proto.scalar_value(tag, float32_of(value)) for tag, value in scalars]
        values += [proto.text_value(tag, text) for tag, text in lines]
        data += proto.frame(proto.summary_event(seconds, step, values))
        for tag, value in scalars:
            point = (step, float32_of(value), struct.pack("<d", seconds))
            want.setdefault(tag, []).append(point)
        texts += [(tag, step, text) for tag, text in lines]
    file = decode("memory", data)
    assert points(file) == want
    assert [text[1:4] for text in file.texts] == texts
    assert file.start == start


@pytest.mark.parametrize(
    "rows",
    [
        1,
        MIN_COLUMNAR_RECORDS - 1,
        MIN_COLUMNAR_RECORDS,
        MIN_COLUMNAR_RECORDS + 1,
        BLOCK_RECORDS + 3,
    ],
)
def test_columns_come_back(rows: int) -> None:
    rng = np.random.default_rng(rows)
    step = np.cumsum(rng.integers(0, 2**20, rows)) - 3
    wall = 1.7e9 + np.cumsum(rng.random(rows))
    columns = []
    for index, share in enumerate((1.0, 0.9, 0.3, 0.01)):
        where = np.flatnonzero(rng.random(rows) < share)
        columns.append(ScalarColumn(f"t{index}", where, as_float32(rng.normal(size=len(where)))))
    data = b"".join(bytes(piece) for piece in scalar_records(columns, step, wall))
    file = decode("memory", data)
    for column in columns:
        want = [
            (int(step[row]), struct.pack("<f", value), struct.pack("<d", wall[row]))
            for row, value in zip(column.rows.tolist(), column.values, strict=True)
        ]
        assert points(file).get(column.tag, []) == want


def tags_in_a_record_each(count: int) -> bytes:
    return b"".join(
        proto.frame(proto.summary_event(1.0, index, [proto.scalar_value(f"t{index:05}", bytes(4))]))
        for index in range(count)
    )


def texts_of_different_lengths(count: int) -> bytes:
    return b"".join(
        proto.frame(proto.summary_event(1.0, n, [proto.text_value("t", "x" * (n % 500))]))
        for n in range(count)
    )


@pytest.mark.parametrize("data", [tags_in_a_record_each, texts_of_different_lengths])
def test_the_time_is_linear_in_the_records(data: Callable[[int], bytes]) -> None:
    """Of 10 times the records it is about 10 times as much; were it quadratic, 100 times."""
    short, long = data(1_000), data(10_000)
    few = processor_seconds(lambda: decode("memory", short))
    assert processor_seconds(lambda: decode("memory", long)) < 40 * few + 0.05


def test_records_of_many_tags_are_not_compared_with_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = [proto.summary_event(1.0, n, [proto.scalar_value(f"t{n % 700:03}", bytes(4))])
              for n in range(42_000)]  # fmt: skip
    compared = 0
    read = Shape.read

    def counted(shape: Shape, rows: Rows) -> object:
        nonlocal compared
        compared += rows.count
        return read(shape, rows)

    monkeypatch.setattr(Shape, "read", counted)
    file = decode("memory", b"".join(proto.frames(events)))
    assert {len(file.points(tag).step) for tag in file.scalars} == {60}
    assert compared < 3 * len(events)


def test_ten_thousand_tags_in_a_record_each() -> None:
    assert len(decode("memory", tags_in_a_record_each(10_000)).scalars) == 10_000


def test_two_thousand_texts_of_different_lengths() -> None:
    file = decode("memory", texts_of_different_lengths(2_000))
    assert sorted(len(text.text) for text in file.texts) == sorted([*range(500)] * 4)


WAYS = {
    "as it is": {},
    "column by column": {"shapes.MIN_COLUMN_ROWS": 1, "shapes.MAX_COLUMN_BYTES": 1 << 30},
    "with byte pairs": {
        "shapes.MIN_COLUMN_ROWS": 1,
        "shapes.MAX_COLUMN_BYTES": 1 << 30,
        "shapes.MIN_PAIRED_ROWS": 1,
    },
    "row by row": {"shapes.MIN_COLUMN_ROWS": 1 << 30},
    "cycle by cycle": {"reader.MIN_CYCLES": 1},
    "in small blocks": {"reader.BLOCK_BYTES": 1, "reader.MIN_CYCLES": 1, "reader.BLOCK_RECORDS": 3},
    "one by one": {
        "reader.MIN_COLUMNAR_RECORDS": 1 << 30,
        "reader.MIN_CYCLES": 1 << 30,
        "reader.MIN_MIXED_RECORDS": 1 << 30,
    },
    "whatever their shape": {
        "reader.MIN_COLUMNAR_RECORDS": 1 << 30,
        "reader.MIN_MIXED_RECORDS": 1,
        "mixed.MIN_ALIKE": 1,
        "mixed.BLOCK_BYTES": 300,
        "tfrecord.MIN_SHORT_RECORDS": 1,
    },
    "in pieces": {"content.MIN_POINTS_PER_PIECE": 1},
}
_cycles = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6),
        st.integers(1, 60),
        st.sampled_from([-5, 0, 1, 100, 16_000, 2**40]),
    ),
    min_size=1,
    max_size=6,
)


def cycled(cycles: list[tuple[list[str], int, int]]) -> tuple[bytes, dict[str, list[Point]]]:
    """A file with repeated records, and its points. Some tags have equal lengths, some records two
    values of one tag, or no step."""
    records, want, number = [], dict[str, list[Point]](), 0
    for names, repeats, step in cycles:
        for name in names * repeats:
            number += 1
            tag = "tag" + name * (1 + ord(name) % 3)
            raw = [struct.pack("<f", number + n) for n in range(1 + (name == "b"))]
            values = [proto.scalar_value(tag, each) for each in raw]
            at = 0 if name == "c" else step + number
            event = proto.summary_event(float(number), at, values)
            records.append(event if name != "c" else event[:9] + event[11:])
            want.setdefault(tag, []).extend((at, each, event[1:9]) for each in raw)
    return b"".join(proto.frames(records)), want


@pytest.mark.parametrize("way", WAYS)
@given(cycles=_cycles)
@settings(max_examples=25)
def test_all_ways_give_the_points_in_order(
    way: str, cycles: list[tuple[list[str], int, int]]
) -> None:
    data, want = cycled(cycles)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WAYS[way].items():
            patch.setattr(f"bridges.formats.events.{name}", value)
        file = decode("x", data)
        first, second = decode_many([EventBytes("x", data, {}), EventBytes("y", data, {})])
    for found in (file, first, second):
        assert isinstance(found, EventFile)
        assert points(found) == want
        for tag, parts in found.scalars.items():
            offsets = np.concatenate([part.offset for part in parts])
            assert (np.diff(offsets) >= 0).all()
            assert found.points(tag).offset.tolist() == offsets.tolist()


# --- files of others --------------------------------------------------------------------------

ODD = [0.1, -0.0, float("nan"), float("inf"), float("-inf"), 1e-45, 16777217.0]


def test_files_of_tensorboard_are_read(tmp_path: Path) -> None:
    writer = EventFileWriter(str(tmp_path))
    for step, value in enumerate(ODD * 20):
        event = event_pb2.Event(wall_time=1000.5 + step, step=step)
        event.summary.value.add(tag="train/loss", simple_value=value)
        if step % 3 == 0:
            event.summary.value.add(tag="eval/loss", simple_value=-value)
        writer.add_event(event)
    writer.close()
    (path,) = tmp_path.iterdir()
    file = decode(str(path), path.read_bytes())
    assert file.start is not None
    assert points(file)["train/loss"] == [
        (step, float32_of(value), struct.pack("<d", 1000.5 + step))
        for step, value in enumerate(ODD * 20)
    ]
    assert [step for step, *_ in points(file)["eval/loss"]] == list(range(0, len(ODD) * 20, 3))


def test_files_of_tensorboardx_are_read(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    for step, value in enumerate(ODD * 10):
        writer.add_scalar("loss", value, step, walltime=5.0)
    writer.add_text("note", "hello *you*", 7)
    writer.add_histogram("weights", np.arange(10.0), 3)
    writer.close()
    (path,) = tmp_path.iterdir()
    file = decode(str(path), path.read_bytes())
    five = struct.pack("<d", 5.0)
    assert points(file)["loss"] == [
        (step, float32_of(value), five) for step, value in enumerate(ODD * 10)
    ]
    assert [text[1:4] for text in file.texts] == [("note/text_summary", 7, "hello *you*")]
    assert list(file.scalars) == ["loss"]


def test_an_event_without_step_or_time_is_at_zero() -> None:
    event = event_pb2.Event()
    event.summary.value.add(tag="a", simple_value=1.0)
    file = decode("memory", proto.frame(event.SerializeToString()))
    assert points(file) == {"a": [(0, float32_of(1.0), bytes(8))]}


def test_unknown_fields_are_passed_over() -> None:
    scalar = proto.scalar_value("a", float32_of(0.5)) + double(1000, 0.1)
    event = proto.summary_event(1.0, 2, [scalar]) + sized(500, b"what") + b"\x9d\x3f" + b"abcd"
    file = decode("memory", proto.frame(event) * 40)
    assert points(file) == {"a": [(2, float32_of(0.5), struct.pack("<d", 1.0))] * 40}


# --- damage -----------------------------------------------------------------------------------


def small_file(rows: int = 40) -> bytes:
    """Version, a text, rows of two shapes: enough for the columnar and for the plain way."""
    step = np.arange(rows) * 100
    columns = [
        ScalarColumn("train/loss", np.arange(rows), as_float32(1 / (1.0 + np.arange(rows)))),
        ScalarColumn("eval/loss", np.arange(0, rows, 9), as_float32(np.arange(0.0, rows, 9))),
    ]
    head = proto.frame(proto.file_version_event(5.0)) + proto.frame(
        proto.summary_event(5.0, 0, [proto.text_value("note/text_summary", "hello")])
    )
    body = scalar_records(columns, step, np.arange(5.0, 5.0 + rows))
    return head + b"".join(bytes(piece) for piece in body)


def damage_of(data: bytes) -> str | None:
    """What the reader says of the bytes, None if it takes them."""
    try:
        decode("run/file", data)
    except EventFileError as error:
        return str(error)
    return None


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_noticed(flip: int) -> None:
    data = small_file()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= flip
        message = damage_of(bytes(damaged))
        assert message is not None, at
        assert re.match(r"run/file: the record at byte \d+ is damaged: ", message)


def test_every_truncation_is_noticed_but_at_record_bounds() -> None:
    data = small_file(10)
    bounds = {0, *(end for _, end in record_bounds(data))}
    silent = set()
    for size in range(len(data) + 1):
        message = damage_of(data[:size])
        if message is None:
            silent.add(size)
        else:
            assert "the file ends inside a record" in message
    assert silent == bounds


def damaged_files() -> dict[str, tuple[bytes, int, str]]:
    data = small_file(40)
    (_, second), (_, third), *_ = record_bounds(data)
    swapped = data[:second] + data[third:] + data[second:third]
    assert decode("swapped", swapped)  # sound records in another order are no damage
    tail = len(data)
    return {
        "zeros behind the end": (data + bytes(96), tail, "the CRC of its length is wrong"),
        "a few zeros": (data + bytes(5), tail, "the file ends inside a record"),
        "garbage behind the end": (
            data + b"\x13" * 64,
            tail,
            "the CRC of its length is wrong",
        ),
        "length beyond the file": (
            data[:second] + b"\xff" * 8 + data[second + 8 :],
            second,
            "the CRC of its length is wrong",
        ),
        "not an event file": (b"<!DOCTYPE html><html></html>", 0, "the CRC of its length is wrong"),
    }


@pytest.mark.parametrize("name", damaged_files())
def test_damage_is_told_with_place_and_kind(name: str) -> None:
    data, offset, why = damaged_files()[name]
    with pytest.raises(EventFileError) as told:
        decode("x", data)
    assert str(told.value) == f"x: the record at byte {offset} is damaged: {why}."
    assert (told.value.path, told.value.offset, told.value.found) == ("x", offset, why)


@given(st.data())
@settings(max_examples=300)
def test_random_damage_never_raises_anything_else(choice: st.DataObject) -> None:
    data = bytearray(small_file(40))
    for _ in range(choice.draw(st.integers(1, 4))):
        low = choice.draw(st.integers(0, len(data) - 1))
        high = min(len(data), low + choice.draw(st.integers(1, 30)))
        data[low:high] = choice.draw(st.binary(max_size=30))
        if not data:
            return
    with contextlib.suppress(EventFileError):
        decode("x", bytes(data))


def test_the_first_texts_are_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(small_file() + b"damage behind them does not matter")
    assert first_texts(str(path)) == [("note/text_summary", "hello")]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_damage_in_the_first_records_is_noticed(flip: int, tmp_path: Path) -> None:
    data = small_file()
    (_, _), (_, second), *_ = record_bounds(data)
    path = tmp_path / "file"
    for at in range(second):
        damaged = bytearray(data)
        damaged[at] ^= flip
        path.write_bytes(damaged)
        with pytest.raises(EventFileError, match="is damaged"):
            first_texts(str(path))


def all_sorts_of(file: EventFile) -> Any:
    return points(file), file.texts, file.start


def test_decoding_twice_gives_the_same() -> None:
    data = small_file()
    assert all_sorts_of(decode("x", data)) == all_sorts_of(decode("x", data))
