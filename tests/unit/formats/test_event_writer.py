"""Event files: the fast way gives the plain way's bytes, and these are what protobuf reads."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboardX import summary as tensorboardx_summary

from bridges.formats.events import proto
from bridges.formats.events.crc32c import crc32c, mask
from bridges.formats.events.writer import (
    BLOCK_ROWS,
    MIN_PAIRED_ROWS,
    MIN_REUSED_ROWS,
    MIN_ROWS,
    WORD_BYTES,
    ScalarColumn,
    as_float32,
    encode,
    encode_fast,
    encode_plain,
    scalar_records,
    step_words,
    varint_sizes,
)
from bridges.formats.protobuf import varint
from tests.bounds import processor_seconds
from tests.integration.exporters.tensorboard.support import (
    SCALARS,
    STEPS,
    TAGS,
    WALL_TIMES,
    float32_of,
    split_records,
)

VARINT_EDGES = [
    *(2 ** (7 * k) + d for k in range(1, 9) for d in (-1, 0, 1)),
    *(0, -1, 2**63 - 1, -(2**63), 2**53 + 1),
]


def joined(pieces: Iterable[Any]) -> bytes:
    return b"".join(bytes(piece) for piece in pieces)


def both_ways(
    tags: tuple[str, ...], step: list[int], wall: list[float], values: list[list[float]]
) -> tuple[bytes, bytes]:
    """The bytes of the plain and of the fast way, whose lengths must tell of the records."""
    arguments = (
        tags,
        np.array(step, np.int64),
        np.array(wall, np.float64),
        [as_float32(np.array(column)) for column in values],
    )
    plain, plain_lengths = encode_plain(*arguments)
    fast, fast_lengths = encode_fast(*arguments)
    assert plain_lengths.tolist() == fast_lengths.tolist()
    assert plain_lengths.sum() == len(plain) == len(fast)
    return plain.tobytes(), fast.tobytes()


def row_by_row(columns: Sequence[ScalarColumn], step: Any, wall: Any) -> bytes:
    """What `scalar_records` promises, in the simplest words."""
    records = []
    for row, (number, seconds) in enumerate(zip(step.tolist(), wall.tolist(), strict=True)):
        values = [
            proto.scalar_value(column.tag, struct.pack("<f", column.values[at]))
            for column in columns
            for at in np.flatnonzero(column.rows == row)
        ]
        if values:
            records.append(proto.frame(proto.summary_event(seconds, number, values)))
    return b"".join(records)


# --- the two ways -----------------------------------------------------------------------------


@st.composite
def _tables(draw: st.DrawFn) -> tuple[tuple[str, ...], list[int], list[float], list[list[float]]]:
    rows = draw(st.integers(1, 12))
    tags = tuple(draw(st.lists(TAGS, min_size=1, max_size=4)))
    step = draw(st.lists(STEPS, min_size=rows, max_size=rows))
    wall = draw(st.lists(WALL_TIMES, min_size=rows, max_size=rows))
    column = st.lists(SCALARS, min_size=rows, max_size=rows)
    return tags, step, wall, [draw(column) for _ in tags]


@given(_tables())
@settings(max_examples=300)
def test_fast_and_plain_are_byte_identical(
    table: tuple[tuple[str, ...], list[int], list[float], list[list[float]]],
) -> None:
    plain, fast = both_ways(*table)
    assert plain == fast


@pytest.mark.parametrize(
    "rows",
    [
        1,
        2,
        MIN_ROWS - 1,
        MIN_ROWS,
        MIN_ROWS + 1,
        BLOCK_ROWS - 1,
        BLOCK_ROWS,
        BLOCK_ROWS + 1,
    ],
)
def test_fast_and_plain_at_the_sizes_where_the_way_changes(rows: int) -> None:
    rng = np.random.default_rng(rows)
    step = rng.integers(-5, 2**21, rows)
    wall = rng.normal(1.7e9, 1e5, rows)
    values = [as_float32(rng.normal(size=rows)), as_float32(rng.normal(size=rows) * 1e-42)]
    arguments = (("train/loss", "train/é"), step, wall, values)
    plain, lengths = encode_plain(*arguments)
    fast, fast_lengths = encode_fast(*arguments)
    chosen, _ = encode(*arguments)
    assert plain.tobytes() == fast.tobytes() == chosen.tobytes()
    assert lengths.tolist() == fast_lengths.tolist()


@pytest.mark.parametrize("tag", ["", "x", "损失/тест/🙂", "t" * 127, "t" * 128, "t" * 70_000])
def test_fast_and_plain_with_odd_tags(tag: str) -> None:
    plain, fast = both_ways((tag, tag + "2"), VARINT_EDGES, [0.0] * len(VARINT_EDGES), [
        [float(i) for i in range(len(VARINT_EDGES))]
    ] * 2)  # fmt: skip
    assert plain == fast
    assert [event.step for event in map(parsed, split_records(plain))] == VARINT_EDGES


def test_sizes_of_step_varints_are_those_of_protobuf() -> None:
    sizes = varint_sizes(np.array(VARINT_EDGES, np.int64)).tolist()
    assert sizes == [len(varint(step)) for step in VARINT_EDGES]
    assert sizes == [event_pb2.Event(step=step).ByteSize() - 1 if step else 1
                     for step in VARINT_EDGES]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0.1, 0.10000000149011612),
        (1e300, float("inf")),
        (-1e300, float("-inf")),
        (3.4028235677973366e38, float("inf")),
        (3.4028235e38, 3.4028234663852886e38),
        (1e-46, 0.0),
        (1e-45, 1.401298464324817e-45),
        (2**53 + 1, 9007199254740992.0),
        (True, 1.0),
    ],
)
def test_float32_of_a_number(value: float, stored: float) -> None:
    assert float(as_float32(np.array([value]))[0]) == stored


# --- whole streams ----------------------------------------------------------------------------


@st.composite
def _columns(draw: st.DrawFn) -> tuple[list[ScalarColumn], Any, Any]:
    rows = draw(st.integers(0, 30))
    columns = []
    for index in range(draw(st.integers(0, 5))):
        where = sorted(draw(st.sets(st.integers(0, rows - 1)))) if rows else []
        size = len(where)
        values = draw(st.lists(SCALARS, min_size=size, max_size=size))
        columns.append(
            ScalarColumn(f"tag{index}", np.array(where, np.int64), as_float32(np.array(values)))
        )
    step = draw(st.lists(STEPS, min_size=rows, max_size=rows))
    wall = draw(st.lists(WALL_TIMES, min_size=rows, max_size=rows))
    return columns, np.array(step, np.int64), np.array(wall, np.float64)


@given(_columns())
@settings(max_examples=200)
def test_mixed_tag_sets_are_written_row_by_row(table: tuple[list[ScalarColumn], Any, Any]) -> None:
    assert joined(scalar_records(*table)) == row_by_row(*table)


@pytest.mark.parametrize(
    "rows",
    [
        MIN_REUSED_ROWS - 1,
        MIN_REUSED_ROWS,
        BLOCK_ROWS + MIN_REUSED_ROWS,
        MIN_PAIRED_ROWS + MIN_REUSED_ROWS + 3,
    ],
)
@pytest.mark.parametrize("steps", ["rising", "one length", "negative", "alternating blocks"])
def test_many_rows_are_written_as_row_by_row(rows: int, steps: str) -> None:
    """Long blocks share one matrix, whose length and step size change on the way."""
    rng = np.random.default_rng(rows)
    step = {
        "rising": np.arange(rows) * 3,
        "one length": 2**40 + rng.integers(0, 2**40, rows),
        "negative": -1 - np.arange(rows),
        "alternating blocks": np.where(
            np.arange(rows) // MIN_REUSED_ROWS % 2, 5, 2**55 + np.arange(rows)
        ),
    }[steps]
    wall = rng.normal(1.7e9, 1e5, rows)
    wall[rows // 2 :] = wall[0]  # bytes that all rows of a block share
    every = np.arange(rows)
    columns = [
        ScalarColumn("train/損失", every, as_float32(rng.normal(size=rows))),
        ScalarColumn("train/constant", every, np.full(rows, 0.1, np.float32)),
        ScalarColumn("train/strided", every, as_float32(rng.normal(size=(rows, 2)))[:, 1]),
    ]
    plain, _ = encode_plain(
        tuple(column.tag for column in columns), step, wall, [column.values for column in columns]
    )
    assert joined(scalar_records(columns, step, wall)) == plain.tobytes()


def test_long_blocks_lie_in_the_same_memory() -> None:
    """Fresh memory for each block costs more than what is written into it."""
    rows = 4 * BLOCK_ROWS
    columns = [ScalarColumn("train/loss", np.arange(rows), np.zeros(rows, np.float32))]
    blocks = scalar_records(columns, 10**6 + np.arange(rows), np.zeros(rows))
    places = [np.frombuffer(block, np.uint8).ctypes.data for block in blocks]
    assert len(places) == 4
    assert len(set(places)) == 1


def test_words_of_steps_are_their_varints() -> None:
    edges = np.array([step for step in VARINT_EDGES if 0 <= step < 2 ** (7 * WORD_BYTES)], np.int64)
    for step in edges:
        size = len(varint(int(step)))
        word = step_words(np.array([step]), size).tobytes()
        assert word[:size] == varint(int(step))


@pytest.mark.parametrize(
    "rows",
    [
        MIN_ROWS * 3,
        BLOCK_ROWS,
        BLOCK_ROWS + 1,
        2 * BLOCK_ROWS + MIN_ROWS + 5,
    ],
)
def test_mixed_tag_sets_over_several_blocks(rows: int) -> None:
    rng = np.random.default_rng(rows)
    columns = []
    for index, share in enumerate((1.0, 1.0, 0.95, 0.5, 0.05, 0.001)):
        where = np.flatnonzero(rng.random(rows) < share)
        values = as_float32(rng.normal(size=len(where)))
        columns.append(ScalarColumn(f"train/{index}", where, values))
    step, wall = np.arange(rows) * 3, 1.7e9 + np.arange(rows) / 7
    want = []
    positions = [dict(zip(c.rows.tolist(), c.values, strict=True)) for c in columns]
    for row in range(rows):
        scalars = [
            proto.scalar_value(column.tag, have[row].tobytes())
            for column, have in zip(columns, positions, strict=True)
            if row in have
        ]
        want.append(proto.frame(proto.summary_event(wall[row], int(step[row]), scalars)))
    assert joined(scalar_records(columns, step, wall)) == b"".join(want)


def tags_in_every_row(count: int) -> bytes:
    """Three rows of so many tags."""
    rows = np.arange(3)
    columns = [
        ScalarColumn(f"tag/{index:05}", rows, as_float32(np.array([index, 0.5, -index])))
        for index in range(count)
    ]
    return joined(scalar_records(columns, rows, np.zeros(3)))


def test_ten_thousand_tags_in_every_row() -> None:
    data = tags_in_every_row(10_000)
    events = [parsed(record) for record in split_records(data)]
    assert [len(event.summary.value) for event in events] == [10_000] * 3
    assert [value.simple_value for value in events[2].summary.value] == [
        float(-index) for index in range(10_000)
    ]


def tags_in_a_row_each(count: int) -> list[ScalarColumn]:
    return [
        ScalarColumn(f"tag/{index:05}", np.array([index]), as_float32(np.array([index])))
        for index in range(count)
    ]


def of_a_row_each(count: int) -> bytes:
    return joined(scalar_records(tags_in_a_row_each(count), np.arange(count), np.zeros(count)))


def test_ten_thousand_tags_in_a_row_each() -> None:
    columns = tags_in_a_row_each(10_000)
    assert of_a_row_each(10_000) == row_by_row_of_singles(columns, 10_000)


@pytest.mark.parametrize("write", [tags_in_every_row, of_a_row_each])
def test_the_time_is_linear_in_the_tags(write: Callable[[int], bytes]) -> None:
    """Of 10 times the tags it is about 10 times as much; were it quadratic, 100 times."""
    few = processor_seconds(lambda: write(1_000))
    assert processor_seconds(lambda: write(10_000)) < 40 * few + 0.05


def row_by_row_of_singles(columns: Sequence[ScalarColumn], count: int) -> bytes:
    return b"".join(
        proto.frame(
            proto.summary_event(0.0, row, [proto.scalar_value(column.tag, column.values.tobytes())])
        )
        for row, column in zip(range(count), columns, strict=True)
    )


def test_rows_without_a_scalar_give_no_record() -> None:
    column = ScalarColumn("a", np.array([1]), as_float32(np.array([2.0])))
    data = joined(scalar_records([column], np.arange(3), np.zeros(3)))
    assert [event.step for event in map(parsed, split_records(data))] == [1]
    assert joined(scalar_records([], np.arange(3), np.zeros(3))) == b""


# --- what protobuf makes of it ----------------------------------------------------------------


def parsed(data: bytes) -> Any:
    """The event as tensorboard's own generated class reads it."""
    return event_pb2.Event.FromString(data)


@given(_tables())
@settings(max_examples=100)
def test_records_parse_with_the_real_protobuf_classes(
    table: tuple[tuple[str, ...], list[int], list[float], list[list[float]]],
) -> None:
    tags, step, wall, values = table
    _, fast = both_ways(*table)
    events = [parsed(record) for record in split_records(fast)]
    assert [event.step for event in events] == step
    assert [struct.pack("<d", e.wall_time) for e in events] == [struct.pack("<d", w) for w in wall]
    for row, event in enumerate(events):
        assert event.WhichOneof("what") == "summary"
        assert [value.tag for value in event.summary.value] == list(tags)
        assert [value.WhichOneof("value") for value in event.summary.value] == ["simple_value"] * (
            len(tags)
        )
        have = [struct.pack("<f", value.simple_value) for value in event.summary.value]
        assert have == [float32_of(column[row]) for column in values]
        assert not event.summary.value[0].HasField("metadata")


def test_protobuf_writes_the_same_bytes() -> None:
    event = event_pb2.Event(wall_time=12.5, step=300)
    event.summary.value.add(tag="train/loss", simple_value=0.25)
    event.summary.value.add(tag="train/é", simple_value=-1.0)
    scalars = [
        proto.scalar_value("train/loss", struct.pack("<f", 0.25)),
        proto.scalar_value("train/é", struct.pack("<f", -1.0)),
    ]
    assert proto.summary_event(12.5, 300, scalars) == event.SerializeToString(deterministic=True)


def test_a_frame_is_a_tfrecord() -> None:
    data = b"some data"
    record = proto.frame(data)
    assert record[:8] == struct.pack("<Q", len(data))
    assert record[8:12] == struct.pack("<I", mask(crc32c(record[:8])))
    assert record[12:-4] == data
    assert record[-4:] == struct.pack("<I", mask(crc32c(data)))


def test_the_first_event_is_the_file_version() -> None:
    event = parsed(proto.file_version_event(1.5))
    assert event == event_pb2.Event(wall_time=1.5, file_version="brain.Event:2")


@pytest.mark.parametrize("text", ["", "hello", "ü\n🙂", "x" * 100_000])
def test_texts_are_those_of_the_text_plug_in(text: str) -> None:
    value = summary_pb2.Summary.Value.FromString(proto.text_value("train/t/text_summary", text))
    public = tensorboardx_summary.text("train/t", text).SerializeToString()
    assert value == summary_pb2.Summary.FromString(public).value[0]


HPARAMS: list[dict[str, proto.HParam]] = [
    {},
    {"learning_rate": 5e-05, "epochs": 3, "fp16": True, "off": False, "optim": "adamw", "": ""},
    {"é🙂": "ü", "big": 2**53 + 1, "nan": float("nan"), "inf": float("inf"), "-0": -0.0},
]


@pytest.mark.parametrize("hparams", HPARAMS)
def test_settings_are_those_of_the_public_hparams_summary(hparams: dict[str, Any]) -> None:
    value = summary_pb2.Summary.Value.FromString(proto.session_start("run 1", hparams, 1234.5))
    public = hparams_summary.hparams_pb(hparams, trial_id="run 1", start_time_secs=1234.5).value[0]
    assert (value.tag, value.tensor) == (public.tag, public.tensor)
    want, have = (
        plugin_data_pb2.HParamsPluginData.FromString(v.metadata.plugin_data.content)
        for v in (public, value)
    )
    assert repr(have) == repr(want)  # repr: a NaN differs from itself
    assert value.metadata.plugin_data.plugin_name == public.metadata.plugin_data.plugin_name


def test_the_end_of_a_session_is_as_the_plug_in_wants_it() -> None:
    value = summary_pb2.Summary.Value.FromString(proto.session_end(99.5, is_success=True))
    info = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=99.5)
    content = plugin_data_pb2.HParamsPluginData(session_end_info=info)
    public = summary_pb2.Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(content),
        tensor=metadata.NULL_TENSOR,
    )
    assert value == public


def test_lone_surrogates_become_visible_escapes() -> None:
    value = summary_pb2.Summary.Value.FromString(proto.scalar_value("a\ud800b", bytes(4)))
    assert value.tag == "a\\ud800b"
