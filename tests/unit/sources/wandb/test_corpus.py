"""Real runs of eight repositories: all are read or named, with the counts of their index.

They are third-party data: read where they lie, beside the repository, and never copied here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2 as pb

from bridges.formats.wandb_log.reader import LogReader
from bridges.formats.wandb_log.rows import read_columns
from bridges.sources.options import ReadOptions
from bridges.sources.wandb.source import WandbSource
from bridges.stream.model import Run
from tests.support import SHARED

CORPUS = SHARED / "corpus_trackers" / "wandb"

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"the corpus of real W&B runs is not at {CORPUS}"
)


@cache
def runs() -> dict[str, Run]:
    """The runs by id."""
    read = WandbSource().read(str(CORPUS), ReadOptions())
    return {str(run.facts["wandb.run_id"]): run for run in read}


def index() -> Iterator[dict[str, str]]:
    """The lines of the index that are here, each with the id of its run."""
    with (CORPUS / "index.tsv").open() as file:
        for line in csv.DictReader(file, delimiter="\t"):
            run_id = line["path"].rpartition("/")[2].removesuffix(".wandb").rpartition("-")[2]
            if [*CORPUS.glob(f"*/*{run_id}*")]:
                yield {**line, "id": run_id}


def test_every_run_with_rows_is_read_with_all_of_them() -> None:
    lines = [*index()]
    assert len(lines) > 20
    for line in lines:
        run = runs().get(line["id"])
        if line["rows"] == "0":
            assert run is None
            continue
        assert run is not None
        assert len(run.stream) == int(line["rows"])
        own_keys = {"trainer": 1}.get(run.key_style, 0) + 3  # `_step` and times
        assert len(run.stream.keys) + own_keys == int(line["keys"]), line
        expected = {"exit 0": "finished", "exit 1": "failed", "none": "unfinished"}
        assert run.status == expected.get(line["end"].partition(" (")[0], "killed")


def test_the_others_are_named() -> None:
    found = [finding for run in runs().values() for finding in run.findings]
    empty = [line for line in index() if line["rows"] == "0"]
    left_out = {"empty-log", "run-without-rows"}
    assert sum(finding.code in left_out for finding in found) == len(empty)
    assert not {"damaged-log", "unreadable-records"} & {finding.code for finding in found}


def test_all_numbers_are_those_of_the_protocol_buffers() -> None:
    """Values and their types, by columns of the log: nothing is lost below the source."""
    logs = [path for path in CORPUS.rglob("*.wandb") if path.stat().st_size]
    assert len(logs) > 15
    for path in logs:
        with path.open("rb") as file:
            history, _ = read_columns(LogReader(file).pieces())
        rows: list[dict[object, str]] = [{} for _ in range(history.count)]
        for names, at, values in history.columns():
            for row, value in zip(at.tolist(), values.tolist(), strict=True):
                rows[row][names] = repr(value)
        assert rows == [*_decoded(path)]


def _decoded(path: Path) -> Iterator[dict[object, str]]:
    with path.open("rb") as file:
        records = [record for piece in LogReader(file).pieces() for record in piece]
    for content in records:
        record = pb.Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            yield {
                tuple(item.nested_key) or (item.key,): repr(json.loads(item.value_json))
                for item in record.history.item
            }
