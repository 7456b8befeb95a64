"""History rows in columns, compared with wandb's own protocol buffers: values, types and bits."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from wandb.proto import wandb_internal_pb2 as pb

from bridges.formats.wandb_log.log import BLOCK_BYTES, LogError
from bridges.formats.wandb_log.reader import LogReader
from bridges.formats.wandb_log.records import RunLog
from bridges.formats.wandb_log.rows import Column, HistoryColumns, read_columns
from tests.wandb_logs import Raw, exit_record, log_of, row_record, rows_of, summary_record

ODD: list[dict[Any, object]] = [
    {"loss": 0.5, "": 1, "nested": {"a": {"b": 1}}, "list": [1, [2, 3]], "text": 'a,"b" [1'},
    {("nested", "a"): 1, ("nested", "b"): "x", "loss": math.nan},
    {"loss": -math.inf, "flag": True, "none": None, "neg0": -0.0, "large": 2**63 - 1},
    {"key longer than sixteen bytes": 1, "key longer than sixteen bytez": 2, "ключ": 1.5},
    {"x" * 300: 1.0, "loss": 7},
    {"loss": "0.25", "blob": "x" * 100_000},
]


def columns_of(data: bytes, piece_bytes: int = BLOCK_BYTES) -> tuple[list[Column], int]:
    """The columns of a log, and the number of rows."""
    history, _ = read_columns(LogReader(io.BytesIO(data), piece_bytes).pieces())
    assert history.unreadable == 0
    return [*history.columns()], history.count


def rows_in(columns: Sequence[Column], count: int) -> list[dict[Any, object]]:
    rows: list[dict[Any, object]] = [{} for _ in range(count)]
    for path, positions, values in columns:
        assert (np.diff(positions) > 0).all()
        for row, value in zip(positions.tolist(), values.tolist(), strict=True):
            assert path not in rows[row]
            rows[row][path] = value
    return rows


def exactly(rows: Sequence[Any]) -> list[dict[Any, str]]:
    """Rows with the type and all digits of each value."""
    return [{path: f"{type(v).__name__} {v!r}" for path, v in row.items()} for row in rows]


@pytest.mark.parametrize("is_core", [True, False])
def test_all_rows_are_those_of_the_protocol_buffers(is_core: bool) -> None:
    chance = random.Random(3)
    rows: list[dict[Any, object]] = []
    for at in range(3000):
        row = {"loss": chance.random(), "step": at, "lr": 1.0 if at % 7 else 0.5, "a": at % 2 == 0}
        if at % 3 == 0:
            row["eval/loss"] = chance.choice([1, 2.5, math.nan])
        names = [*row]
        chance.shuffle(names)
        rows.append({name: row[name] for name in names})
    for odd in ODD:
        rows.insert(chance.randrange(len(rows)), odd)
    records = [row_record(row, is_core=is_core, step=at) for at, row in enumerate(rows)]
    data = log_of(records)
    expected = rows_of(data)
    assert len(data) > 5 * BLOCK_BYTES
    for piece_bytes in (BLOCK_BYTES, 64 * BLOCK_BYTES):
        assert exactly(rows_in(*columns_of(data, piece_bytes))) == exactly(expected)


def test_of_several_values_of_a_key_in_a_row_the_last_one_counts() -> None:
    record = pb.Record()
    for key, value in (("loss", "1"), ("b", "2"), ("loss", "1.5")):
        record.history.item.add(nested_key=[key], value_json=value)
    data = log_of([bytes(record.SerializeToString()), row_record({"loss": 3})])
    assert rows_in(*columns_of(data)) == [{("loss",): 1.5, ("b",): 2}, {("loss",): 3}]


def test_integers_beyond_int64_are_the_nearest_float_and_counted() -> None:
    history, _ = read_columns(LogReader(io.BytesIO(log_of([row_record({"n": 2**64})]))).pieces())
    assert rows_in([*history.columns()], 1) == [{("n",): 2.0**64}]
    assert history.rounded == 1


def test_a_value_that_is_not_json_is_counted_and_the_others_are_read() -> None:
    rows = [row_record({"loss": Raw(text)}) for text in ("0.5", "oops", "1,2", "0.75")]
    history, _ = read_columns(LogReader(io.BytesIO(log_of(rows))).pieces())
    assert (history.count, history.unreadable) == (4, 2)
    assert rows_in([*history.columns()], 4) == [{("loss",): 0.5}, {}, {}, {("loss",): 0.75}]


def test_typed_values_are_read() -> None:
    """The opt-in encoding of wandb 0.31."""
    record = pb.Record()
    for name, value in (("integer", -3), ("number", 0.5), ("text", "x"), ("boolean", True)):
        record.history.item.add(key=name, **{name: value})
    record.history.item.add(key="json", json="[1]")
    columns = columns_of(log_of([bytes(record.SerializeToString())]))
    assert rows_in(*columns) == [
        {("integer",): -3, ("number",): 0.5, ("text",): "x", ("boolean",): True, ("json",): [1]}
    ]


def test_rows_go_on_in_another_log() -> None:
    history = HistoryColumns()
    for value in (1, 2):
        for piece in LogReader(io.BytesIO(log_of([row_record({"a": value})]))).pieces():
            history.add(piece)
    assert rows_in([*history.columns()], history.count) == [{("a",): 1}, {("a",): 2}]


def test_summaries_of_rows_are_left_out_and_those_of_the_user_and_the_last_kept() -> None:
    records = [summary_record({"first": 0})]
    for at in range(100):
        of_row = [summary_record({"_runtime": at}), summary_record({"a": at})]
        records += [row_record({"a": at}), *of_row]
        if at == 50:
            records.append(summary_record({"best": 5}, is_user=True))
    records += [summary_record({"late": 1}), exit_record()]
    _, others = read_columns(LogReader(io.BytesIO(log_of(records))).pieces())
    log = RunLog()
    log.add(others)
    assert len(others) < 10
    found = {".".join(path): value for path, value in log.summary.items()}
    assert found == {"first": 0, "best": 5, "_runtime": 99, "a": 99, "late": 1}


ROWS = [row_record({"a": at, "text": "x" * 600}) for at in range(160)]  # three blocks


def read(data: bytes) -> tuple[list[dict[Any, object]], LogReader]:
    reader = LogReader(io.BytesIO(data))
    history, _ = read_columns(reader.pieces())
    return rows_in([*history.columns()], history.count), reader


def test_a_log_cut_anywhere_gives_its_first_rows() -> None:
    data = log_of(ROWS)
    all_rows = rows_of(data)
    for size in [*range(7, len(data), 97), *range(len(data) - 700, len(data) + 1)]:
        rows, reader = read(data[:size])
        assert rows == all_rows[: len(rows)]
        assert reader.damages == []
        if reader.torn is None:
            assert rows_of(data[:size]) == rows
        else:
            assert reader.torn.stop == size
            with pytest.raises(LogError, match="ends within"):
                rows_of(data[:size])
    assert len(rows) == len(ROWS)


@pytest.mark.slow
def test_a_log_cut_at_any_byte_of_its_last_blocks_gives_its_first_rows() -> None:
    data = log_of(ROWS)
    all_rows, last = rows_of(data), 0
    for size in range(len(data) // BLOCK_BYTES * BLOCK_BYTES - BLOCK_BYTES, len(data)):
        rows, _ = read(data[:size])
        assert rows == all_rows[: len(rows)]
        assert len(rows) - (last or len(rows)) in (0, 1)  # each one as soon as it is complete
        last = len(rows)
    assert last == len(all_rows) - 1


def test_rows_behind_a_damaged_block_are_read() -> None:
    data = bytearray(log_of(ROWS))
    data[BLOCK_BYTES + 5000] ^= 1
    rows, reader = read(bytes(data))
    all_rows = rows_of(log_of(ROWS))
    assert 60 < len(rows) < len(ROWS)
    assert all(row in all_rows for row in rows)
    assert rows[-1] == all_rows[-1]
    (gap,) = reader.damages
    assert BLOCK_BYTES < gap.start <= BLOCK_BYTES + 5000 < gap.stop
    assert reader.torn is None


def test_zeros_at_the_end_are_a_torn_end() -> None:
    data = log_of(ROWS) + bytes(100)
    rows, reader = read(data)
    assert len(rows) == len(ROWS)
    assert reader.torn is not None
    assert reader.torn.stop == len(data)
    assert reader.damages == []


@pytest.mark.parametrize(("keys", "count"), [(40, 300), (600, 40), (600, 3)])
def test_rows_of_many_keys_are_those_of_the_protocol_buffers(keys: int, count: int) -> None:
    """Keys of one length with the same beginnings and ends."""
    chance, rows = random.Random(4), list[dict[Any, object]]()
    for at in range(count):
        names = [f"model.layers.{number:04}.self_attn.norm" for number in range(keys)]
        chance.shuffle(names)
        rows.append({**{name: at + chance.random() for name in names[: keys - 2]}, "a": at})
    rows[1] |= ODD[1]
    data = log_of(map(row_record, rows))
    assert exactly(rows_in(*columns_of(data))) == exactly(rows_of(data))


def test_pieces_with_few_rows_of_many_keys_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridges.formats.wandb_log.rows.MAX_SINGLE_VALUES", 2000)
    rows: list[dict[Any, object]] = [
        {**{f"layers.{number}": at + number / 7 for number in range(500)}, "a": at}
        for at in range(20)
    ]
    rows[3] |= ODD[0]
    rows[4] |= {"bad": Raw("1,2")}
    history = HistoryColumns()
    for piece in LogReader(io.BytesIO(log_of(map(row_record, rows))), BLOCK_BYTES).pieces():
        assert len(piece) < 3
        history.add(piece)
    del rows[4]["bad"]
    assert exactly(rows_in([*history.columns()], 20)) == exactly(
        rows_of(log_of(map(row_record, rows)))
    )
    assert history.unreadable == 1
