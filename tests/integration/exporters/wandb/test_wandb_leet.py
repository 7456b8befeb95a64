"""`wandb leet inspect`, wandb's own reader of run files, shows every record and value."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from bridges.formats.wandb_log.log import BLOCK_BYTES, FIRST
from bridges.stream.model import Run
from bridges.testing.exporters import ROWS
from tests.bounds import HANGS
from tests.integration.exporters.wandb.support import (
    GROUNDTRUTH,
    SCENARIOS,
    environment,
    export,
    file_of,
    parsed,
    rows_of,
)
from tests.support import make_run, read_one, same

NOWHERE = "http://127.0.0.1:9"  # it only reads the file
TEXTS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}  # what leet shows for no number


def inspect(file: Path, place: Path) -> list[dict[str, Any]]:
    """The records as leet shows them; its own log goes to the place."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
        cwd=place,
        env=environment(NOWHERE),
        capture_output=True,
        encoding="utf-8",
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.split("\n")  # a value may hold other line breaks
    return [json.loads(line, parse_int=_integer) for line in lines if line]


def _integer(digits: str) -> int | float:
    return -0.0 if digits == "-0" else int(digits)


def is_shown(value: Any, seen: Any) -> bool:
    """Whether leet shows just this value: 1.0 as 1, what is no number as a text."""
    if isinstance(value, dict) and isinstance(seen, dict):
        return value.keys() == seen.keys() and all(is_shown(value[k], seen[k]) for k in value)
    if isinstance(value, list) and isinstance(seen, list):
        return len(value) == len(seen) and all(map(is_shown, value, seen))
    if isinstance(value, float) and type(seen) in (int, float):
        return same(value, float(seen))
    return same(TEXTS.get(str(value), value) if isinstance(value, float) else value, seen)


def check(run: Run, folder: Path) -> None:
    """Export a run and compare what leet shows of it."""
    assert export(run, folder).verified
    file = file_of(folder)
    records, written = inspect(file, folder), parsed(file)
    kinds = [(record.num, record.WhichOneof("record_type")) for record in written]
    assert [(record["num"], record["type"]) for record in records] == kinds
    seen = [record["history"] for record in records if record["type"] == "history"]
    for row, shown in zip(rows_of(file), seen, strict=True):
        assert is_shown(row, shown["item"]), (row, shown)
        assert shown["step"]["num"] == row["_step"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_rows_of_live_runs_are_shown(scenario: str, tmp_path: Path) -> None:
    check(read_one(GROUNDTRUTH / scenario / "trainer_state.json"), tmp_path)


def test_values_of_every_kind_are_shown(tmp_path: Path) -> None:
    check(make_run(ROWS), tmp_path)


def test_records_across_blocks_are_shown(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"loss": 1 / step, "step": step} for step in range(1, 801)]
    rows.insert(300, {"note": "x" * 100_000, "step": 300})
    check(make_run(rows), tmp_path)
    assert file_of(tmp_path).stat().st_size > 6 * BLOCK_BYTES


def test_a_record_that_begins_where_a_block_has_room_for_a_header_only(tmp_path: Path) -> None:
    """One block of some 200 ends so."""
    rows: list[dict[str, Any]] = [{"loss": 1 / step, "step": step} for step in range(1, 401)]
    head = struct.pack("<IHB", zlib.crc32(bytes([FIRST])), 0, FIRST)
    for size in range(1, 400):
        noted = [*rows[:5], {"note": "x" * size, "step": 5}, *rows[5:]]
        assert export(make_run(noted), tmp_path / f"{size}").verified
        if (
            file_of(tmp_path / f"{size}").read_bytes()[BLOCK_BYTES - len(head) : BLOCK_BYTES]
            == head
        ):
            return check(make_run(noted), tmp_path / f"{size}")
    raise AssertionError("no record began there")


def test_other_values_are_not_taken_for_them() -> None:
    pairs: list[tuple[Any, Any]] = [
        (float("nan"), "Infinity"),
        (float("inf"), "-Infinity"),
        ("nan", "NaN"),
        (-0.0, 0),
        (0.1, 0.10000000000000002),
        (2**53 + 1, 2**53),
        (1, 1.0),
        (True, 1),
        (1.0, True),
        (None, "null"),
        ([1], [1, 2]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": {"b": 2}}),
    ]
    assert [pair for pair in pairs if is_shown(*pair)] == []
