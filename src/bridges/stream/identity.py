"""Identity: which run this is, and how much of its history a target holds.

The *run key* does not change when the log grows or the file moves; the *prefix digest* of n rows
is equal for two logs exactly if their first n rows are (steps, keys, types and values; not the
times, which may be synthetic).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from bridges.stream.model import Int64, MetricStream, Run, Values

FORMAT = b"bridges-1"
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr).encode
NOT_MEASURED = frozenset(
    {"epoch", "learning_rate", "num_input_tokens_seen", "total_flos", "train_runtime"}
)


def run_key(run: Run, layout: Mapping[str, str] | None = None) -> str:
    """32 hex digits made of the first row with a measured value, the trial, and the layout.

    Loss, grad_norm and metrics are measured; the learning rate and the epoch are equal in all runs
    of one recipe. `layout` holds the options that change what a target is to hold (x-axis, naming,
    duplicates) where they are not the default: another layout is another run there.
    """
    digest = hashlib.blake2b(FORMAT, digest_size=16)
    digest.update(_canonical(_first_row(run.history) or [run.name, _text_keys(run.params)]))
    digest.update(_canonical(run.trial))
    digest.update(_canonical(sorted(layout.items()) if layout else None))
    return digest.hexdigest()


def prefix_digest(stream: MetricStream, rows: int) -> str:
    """32 hex digits over the first `rows` rows; the cost is linear in their points."""
    digest = hashlib.blake2b(FORMAT, digest_size=16)
    digest.update(_canonical(rows))
    digest.update(stream.step[:rows].tobytes())
    for series in sorted(stream.series, key=lambda s: (s.key, s.values.dtype.kind)):
        part = series.slice(0, rows)
        if len(part.rows):
            digest.update(_head(series.key, series.values.dtype.kind))
            digest.update(_positions(part.rows))
            digest.update(_values(part.values))
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _head(key: str, kind: str) -> bytes:
    return _canonical([key, kind])


def _positions(rows: Int64) -> bytes:
    """The row positions; `all` stands for 0..n-1, the common case."""
    return b"all" if rows[-1] == len(rows) - 1 else hashlib.blake2b(rows.tobytes()).digest()


def _values(values: Values) -> bytes:
    if values.dtype == object:
        return hashlib.blake2b(_canonical(values.tolist())).digest()
    if values.dtype == np.float64 and np.isnan(values).any():
        values = np.where(np.isnan(values), np.nan, values)  # one bit pattern for every NaN
    return hashlib.blake2b(np.ascontiguousarray(values).data).digest()


def _first_row(stream: MetricStream) -> list[Any] | None:
    """Step and measured values of the first row that has one; else all of the first row."""
    series = [part for part in stream.numbers if is_measured(part.key)] or stream.series
    if not series:
        return [stream.step[:1].tolist()] if len(stream) else None
    row = min(int(part.rows[0]) for part in series)
    first = (part for part in series if part.rows[0] == row)
    values = [[part.key, repr(part.values[:1].tolist())] for part in first]
    return [int(stream.step[row]), sorted(values)]


def is_measured(key: str) -> bool:
    """Whether a key tells one run from another of the same recipe."""
    return key not in NOT_MEASURED and not key.endswith(("_runtime", "_per_second"))


def _text_keys(value: Any) -> Any:
    """The value with text for every key, which keys of runs are made of since the first version."""
    if isinstance(value, Mapping):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _canonical(value: Any) -> bytes:
    return _encode(value).encode()
