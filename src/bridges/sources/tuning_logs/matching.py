"""Matches rows of a tuning tool's log to rows of a history, by their measured values."""

from __future__ import annotations

import numpy as np

from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.sources.tuning_logs.formats import is_of_process
from bridges.stream.model import Int64, MetricStream

Row = dict[str, float]
MAX_ROWS_PER_STEP = 50  # candidates that a row is compared with


def same_rows(
    history: MetricStream, log: MetricStream, digits: int | None, relative: float = 0.0
) -> tuple[Int64, int | None]:
    """The history row of each log row (int64, -1: none), and the first contradiction.

    A contradiction is a row of the history whose step the log has with other values only. Rows are
    compared from the end, because a resume replaces earlier attempts. Values are equal to `digits`
    decimals (None: exactly), or within the fraction `relative` of the value.
    """
    of_step: dict[int, list[int]] = {}
    for line, step in enumerate(log.step.tolist()):
        of_step.setdefault(step, []).append(line)
    mine, theirs = measured_values(history), measured_values(log)
    same, before, contradicted = np.full(len(log), -1, np.int64), len(log), None
    for row in range(len(history) - 1, -1, -1):
        lines = of_step.get(int(history.step[row]), [])
        while lines and lines[-1] >= before:
            lines.pop()
        known = [line for line in lines[-MAX_ROWS_PER_STEP:] if mine[row].keys() & theirs[line]]
        equal = [line for line in known if _agree(mine[row], theirs[line], digits, relative)]
        if equal:
            before = equal[-1]
            same[before] = row
        elif known:
            contradicted = row
    return same, contradicted


def measured_values(stream: MetricStream) -> list[Row]:
    """The measured values of each row, by key, which distinguish runs."""
    rows: list[Row] = [{} for _ in range(len(stream))]
    for series in stream.numbers:
        if TRAINER_RULES.is_measured(series.key) and not is_of_process(series.key):
            for row, value in zip(series.rows.tolist(), series.values.tolist(), strict=True):
                rows[row][series.key] = value
    return rows


def _agree(row: Row, line: Row, digits: int | None, relative: float) -> bool:
    """Whether all values with common keys are equal to the precision of the log."""
    return all(_equal(row[key], line[key], digits, relative) for key in row.keys() & line.keys())


def _equal(value: float, logged: float, digits: int | None, relative: float) -> bool:
    if value == logged or (value != value and logged != logged):
        return True
    return digits is not None and abs(value - logged) <= 10**-digits + relative * abs(value)
