"""W&B run files stay the same to the last byte, and wandb knows every field in them.

`tests/data/wandb_records` holds them; `make_wandb_records.py` makes them anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridges.formats.protobuf import integer, sized
from bridges.formats.wandb_log.log import text
from tests.golden.make_wandb_records import FOLDER, RUNS, golden, write
from tests.integration.exporters.wandb.support import parsed

FILES = [file for name in RUNS for file in golden(name)]


def is_known(record: Any) -> bool:
    """Whether wandb's protocol buffers have every field of a record, at any depth."""
    known = type(record).FromString(record.SerializeToString())
    known.DiscardUnknownFields()
    return bool(known.ByteSize() == record.ByteSize())


@pytest.mark.parametrize("name", RUNS)
def test_the_bytes_are_the_same(name: str, tmp_path: Path) -> None:
    for made, stored in zip(write(name, tmp_path), golden(name), strict=True):
        assert "\n".join(map(str, parsed(made))) == "\n".join(map(str, parsed(stored)))
        assert made.read_bytes() == stored.read_bytes()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_wandb_knows_every_field(file: Path) -> None:
    assert [record for record in parsed(file) if not is_known(record)] == []


def test_no_other_file_is_there() -> None:
    assert sorted(FOLDER.iterdir()) == sorted(FILES)


@pytest.mark.parametrize(
    ("row", "known"),
    [
        (text(1, "loss") + text(16, "1"), True),
        (text(1, "loss") + text(16, "1") + integer(99, 1), False),
        (text(1, "loss") + integer(16, 1), False),  # a number where wandb has a text
    ],
)
def test_unknown_fields_are_found(row: bytes, known: bool) -> None:
    from wandb.proto import wandb_internal_pb2

    record = integer(1, 7) + sized(2, sized(1, row))
    assert is_known(wandb_internal_pb2.Record.FromString(record)) == known
    more = wandb_internal_pb2.Record.FromString(record + text(99, "x"))
    assert not is_known(more)
