"""Runs of the callback of transformers: they are the Trainer's again.

The callback renames the keys of a log row, adds the step, and moves the final values of a training
into the summary. This is undone: the run equals one read from its `trainer_state.json`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from bridges.formats.wandb_log.items import Path
from bridges.formats.wandb_log.records import MetricDefinition, RunLog
from bridges.huggingface.callback_naming import SUMMARY_KEYS
from bridges.huggingface.settings_digests import digests
from bridges.stream.model import Int64, MetricStream, Series
from bridges.stream.settings import Settings

STEP_KEY = "train/global_step"
PREFIXES = {"train/": "", "eval/": "eval_", "test/": "test_"}  # and those in `log_history`
COUNTS = frozenset({"num_input_tokens_seen", "num_tokens", "num_input_tokens"})  # integers
MEMORY = "_mem_"  # in the keys of integers in the Trainer's last row
SETTINGS = ("learning_rate", "seed", "weight_decay", "warmup_steps", "gradient_accumulation_steps",
            "per_device_train_batch_size")  # fmt: skip


def is_trainer(logs: Sequence[RunLog], keys: Collection[str]) -> bool:
    """Whether the callback alone logged these keys."""
    is_proven = any(log.is_trainer or has_axis(log.metrics, STEP_KEY) for log in logs)
    return is_proven and STEP_KEY in keys and all(key.startswith((*PREFIXES,)) for key in keys)


def has_axis(definitions: Sequence[MetricDefinition], metric: str) -> bool:
    """Whether a metric is the x-axis of all others, as the callback defines it."""
    is_defined = any(each.name == metric and not each.is_glob for each in definitions)
    return is_defined and any(
        each.name == "*" and each.step_metric == metric for each in definitions
    )


def logged_key(key: str) -> str:
    """The key in `log_history`."""
    prefix = next(prefix for prefix in PREFIXES if key.startswith(prefix))
    return PREFIXES[prefix] + key.removeprefix(prefix)


def as_logged(
    series: Sequence[Series], summary: Mapping[Path, object], *, is_exact: bool
) -> list[Series]:
    """The series under the Trainer's keys, with its final values from the summary.

    Rows are those without the step. wandb-core writes 1.0 as 1: unless the types are exact, whole
    numbers are floats, except counts.
    """
    found = [part.under(logged_key(part.key)) for part in series if part.key != STEP_KEY]
    found += _final(found, summary)
    return found if is_exact else _with_floats(found)


def _final(series: Sequence[Series], summary: Mapping[Path, object]) -> list[Series]:
    """The final values of the training, in the last row with an epoch and at most counts."""
    values = {
        path[0]: np.nan if value is None else value  # NaN becomes null there
        for path, value in summary.items()
        if len(path) == 1 and path[0] in SUMMARY_KEYS
    }
    rows = [part.rows for part in series]
    if not values or not rows:
        return []
    others = np.zeros(1 + max(int(part[-1]) for part in rows), bool)
    for part in series:
        others[part.rows] |= part.key != "epoch" and not is_count(part.key)
    epochs = np.concatenate([part.rows for part in series if part.key == "epoch"] or [rows[0][:0]])
    bare: Int64 = np.sort(epochs[~others[epochs]])
    return [
        Series(key, bare[-1:], np.array([value]))
        for key, value in values.items()
        if len(bare) and isinstance(value, (int, float))
    ]


def lacks_final(stream: MetricStream) -> bool:
    """Whether the last row has only an epoch, counts and some final values: others may follow."""
    last = len(stream) - 1
    keys = {part.key for part in stream.series if len(part.rows) and part.rows[-1] == last}
    others = {key for key in keys if key != "epoch" and not is_count(key)}
    return bool(keys) and others < {*SUMMARY_KEYS}


def is_count(key: str) -> bool:
    """Whether the Trainer logs integers under a key."""
    return key in COUNTS or MEMORY in key


def _with_floats(series: Sequence[Series]) -> list[Series]:
    """The series with floats in place of integers, except counts."""
    parts: dict[tuple[str, str], list[Series]] = {}
    for part in series:
        if part.values.dtype == np.int64 and not is_count(part.key):
            part = Series(part.key, part.rows, part.values.astype(np.float64))
        parts.setdefault((part.key, part.values.dtype.kind), []).append(part)
    return [_joined(members) for members in parts.values()]


def _joined(parts: Sequence[Series]) -> Series:
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    return Series(parts[0].key, rows[order], np.concatenate([p.values for p in parts])[order])


def settings_of(params: Mapping[str, object]) -> Settings:
    """Settings to distinguish runs with equal rows."""
    numbers = {key: params[key] for key in SETTINGS if isinstance(params.get(key), (int, float))}
    return Settings(digests(numbers))
