"""The first row of a history as a tuning tool's log would hold it: a run key is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from bridges.sources.tuning_logs.formats import MS_SWIFT
from bridges.stream.model import MetricStream, Run, Series

# the metrics in LLaMA-Factory's log, under the Trainer's keys
_FACTORY = frozenset({"loss", "eval_loss", "predict_loss", "reward", "rewards/accuracies"})


def as_tools_log(run: Run) -> Iterator[Run]:
    """The run with its first measured row alone, as LLaMA-Factory and as ms-swift log it."""
    numbers, rules = run.history.numbers, run.key_rules
    for series in (
        [part for part in numbers if part.key in _FACTORY],
        [_rounded(part) for part in numbers if rules.is_measured(part.key)],
    ):
        if series:
            row = min(int(part.rows[0]) for part in series)
            first = tuple(
                Series(part.key, np.zeros(1, np.int64), part.values[:1])
                for part in series
                if part.rows[0] == row
            )
            at = slice(row, row + 1)
            stream = MetricStream(run.history.step[at], run.history.kind[at], first)
            yield replace(run, stream=stream, added=(), evidence=(), logs=(), trial=None)


def _rounded(series: Series) -> Series:
    """The first value of a series, rounded by Python; NumPy rounds some values differently."""
    if series.values.dtype.kind != "f":
        return series
    values = [round(series.values[0].item(), MS_SWIFT.digits)]
    return Series(series.key, series.rows[:1], np.array(values, series.values.dtype))
