"""The trend of a metric: a few values to draw, or a line of block characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from bridges.stream.model import MetricStream
from bridges.stream.naming import KeyRules

TREND_VALUES = 48
SPARKS = "▁▂▃▄▅▆▇█"


def main_metric(stream: MetricStream, rules: KeyRules) -> str:
    """The key of the main metric; empty if there is none."""
    return next(iter(rules.main_keys(stream)), "")


def trend(stream: MetricStream, key: str, width: int = TREND_VALUES) -> tuple[float, ...]:
    """At most `width` values of a metric: means of equal parts of its finite values."""
    values = stream.column(key)[1]
    is_finite = np.isfinite(values)
    values = values if is_finite.all() else values[is_finite]
    if len(values) > width:
        edges = np.arange(width + 1) * len(values) // width
        sizes = edges[1:] - edges[:-1]
        shares = np.repeat(sizes.astype(np.float64), sizes)
        np.divide(values, shares, out=shares)  # summing first could overflow
        with np.errstate(over="ignore"):
            means = np.add.reduceat(shares, edges[:-1])
        if np.isinf(means).any():  # shares of the largest float may round up
            means = np.clip(means, values.min(), values.max())
        values = means
    return tuple(values.tolist())


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The trend of a metric in block characters; `·` stands for NaN and infinities."""
    if not values:
        return ""
    width = min(width, len(values))
    edges = [round(index * len(values) / width) for index in range(width + 1)]
    cells = [_mean(values[low:high]) for low, high in pairwise(edges)]
    finite = [cell for cell in cells if cell is not None]
    if not finite:
        return "·" * width
    return sparks(cells, min(finite), max(finite))


def sparks(cells: Sequence[float | None], low: float, high: float, empty: str = "·") -> str:
    """A block character for each value between `low` and `high`; `empty` stands for None."""
    return "".join(empty if cell is None else _spark(cell, low, high - low) for cell in cells)


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if abs(value) < float("inf")]
    return sum(value / len(finite) for value in finite) if finite else None


def _spark(cell: float, low: float, span: float) -> str:
    share = (cell - low) / span if 0 < span < float("inf") else 0.5
    return SPARKS[min(int(share * len(SPARKS)), len(SPARKS) - 1)]
