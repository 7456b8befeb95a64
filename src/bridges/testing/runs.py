"""Small runs for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bridges.huggingface.trainer_keys import TRAINER_RULES, row_kinds
from bridges.stream.align import fill_steps
from bridges.stream.columns import series_from_rows
from bridges.stream.model import MetricStream, Run


def make_stream(rows: Sequence[dict[str, Any]]) -> MetricStream:
    """A stream of log rows; a row without a step gets the step of the row before it."""
    listed = list(rows)
    series, _ = series_from_rows(listed)
    known = np.array([row.get("step") is not None for row in listed], bool)
    step = np.array([row.get("step") or 0 for row in listed], np.int64)
    filled, _ = fill_steps(step, known)
    return MetricStream(filled, row_kinds(len(listed), series), series)


def make_run(rows: Sequence[dict[str, Any]], **fields: Any) -> Run:
    """A run of the Trainer's log rows."""
    known = {"name": "run", "source": "test", "key_rules": TRAINER_RULES, **fields}
    return Run(**known, stream=make_stream(rows))
