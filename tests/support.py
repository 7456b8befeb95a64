"""Helpers of many tests: paths of the test data, readers of single files, and small streams."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bridges.sources.options import ReadOptions
from bridges.sources.trainer.state_file import TrainerStateSource
from bridges.stream.model import Run
from bridges.testing.runs import make_run as make_run
from bridges.testing.runs import make_stream as make_stream

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY / "tests" / "data"
SHARED = REPOSITORY.parent / "shared"
CORPUS = SHARED / "corpus"  # third-party files, never part of the repository
GROUNDTRUTH = SHARED / "groundtruth"

needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"the corpus of real histories is not at {CORPUS}"
)
needs_groundtruth = pytest.mark.skipif(
    not GROUNDTRUTH.is_dir(), reason=f"the recorded live runs are not at {GROUNDTRUTH}"
)


def read_one(path: Path | str, *, salvage: bool = False) -> Run:
    """The only run of a file."""
    (run,) = TrainerStateSource().read(str(path), ReadOptions(salvage=salvage))
    return run


def read_bytes(tmp_path: Path, data: bytes, *, salvage: bool = False) -> Run:
    """The run of a file with these bytes."""
    path = tmp_path / "trainer_state.json"
    path.write_bytes(data)
    return read_one(path, salvage=salvage)


def codes(run: Run) -> list[str]:
    """The codes of a run's findings, in their order."""
    return [finding.code for finding in run.findings]


def with_steps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as in a stream: each row has a step."""
    filled, last = [], 0
    for row in rows:
        step = row.get("step")
        last = last if step is None else step
        filled.append({**row, "step": last})
    return filled


def same(left: Any, right: Any) -> bool:
    """Equality of types and bits: 1 differs from 1.0 and 0.0 from -0.0, and NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        if math.isnan(left):
            return math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


def state(rows: Sequence[Any], **fields: Any) -> bytes:
    """A small `trainer_state.json` with these rows."""
    return json.dumps({"global_step": 2, "log_history": list(rows), **fields}).encode()


def packed(data: bytes) -> bytes:
    """The data compressed by gzip, reproducibly."""
    return gzip.compress(data, mtime=0)
