"""Damaged W&B runs and receipts: only the readers' own errors leave them."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridges.exporters.receipts import ReceiptFile
from bridges.exporters.wandb.reader import attached, has_end, read_head, read_run, with_files
from bridges.formats.wandb_log.log import LogError, write_log
from bridges.formats.wandb_log.reader import read_log
from tests.support import DATA

FILES = sorted((DATA / "wandb_records").glob("*.wandb"))
MARK = (
    b'{"key": "k", "name": "n", "place": "x", "then": [["x", 1, 2]], "mark": {"made_of": "a", '
    b'"runs": 1, "left_out": 0, "source": "s", "digest": "d", "rows": 1, "points": 2, '
    b'"course": [1.0], "looks": ""}}'
)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes with some of them changed, taken out, put in, or cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(changed) + 1)
        way = chance.random()
        if way < 0.5:
            changed[at : at + 1] = chance.randbytes(1)
        elif way < 0.7:
            del changed[at : at + chance.randint(1, 40)]
        elif way < 0.9:
            changed[at:at] = chance.randbytes(chance.randint(1, 20))
        else:
            del changed[at:]
    return bytes(changed)


def with_damaged_records(data: bytes, chance: random.Random) -> bytes:
    """The file with sound frames around records of which some are damaged."""
    records = [*read_log(data)]
    changed = (damaged(one, chance) if chance.random() < 0.3 else one for one in records)
    return b"".join(map(bytes, write_log(changed)))


@pytest.mark.parametrize("damage", [damaged, with_damaged_records])
def test_damaged_runs_raise_one_error(
    damage: Callable[[bytes, random.Random], bytes], tmp_path: Path
) -> None:
    chance, path = random.Random(5), tmp_path / "run-x.wandb"
    failed = 0
    for _ in range(400):
        data = damage(chance.choice(FILES).read_bytes(), chance)
        path.write_bytes(data)
        ways: tuple[Callable[[], Any], ...] = (
            lambda: read_head(str(path)),
            lambda: has_end(str(path)),
            partial(attached, data),
            partial(read_run, [data], from_start=True),
            partial(with_files, data, ["a"], rows=True),
        )
        for way in ways:
            failed += 1
            with suppress(LogError):
                way()
                failed -= 1
    assert failed > 300  # the damage is seen


def test_damaged_receipts_are_no_receipts(tmp_path: Path) -> None:
    chance, path = random.Random(5), tmp_path / "marks.jsonl"
    for _ in range(1000):
        lines = (damaged(MARK, chance), MARK, damaged(MARK, chance))
        path.write_bytes(b"".join(b"\n" + line for line in lines))
        assert [*ReceiptFile(str(path), str(tmp_path)).read()] == []  # nothing lies at `x`
