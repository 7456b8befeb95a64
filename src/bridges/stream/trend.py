"""The trend of a run: its main metric, reduced to a few values for sparklines."""

from __future__ import annotations

import numpy as np

from bridges.stream.model import MetricStream
from bridges.stream.naming import KeyRules

TREND_VALUES = 48


def trend(stream: MetricStream, rules: KeyRules, width: int = TREND_VALUES) -> tuple[float, ...]:
    """At most `width` values of the main metric: means of equal parts of its finite values."""
    for key in rules.main_keys(stream)[:1]:
        values = stream.column(key)[1]
        values = values[np.isfinite(values)]
        if len(values) > width:
            edges = np.arange(width + 1) * len(values) // width
            sizes = edges[1:] - edges[:-1]
            shares = values / np.repeat(sizes, sizes)  # summing first could overflow
            with np.errstate(over="ignore"):
                means = np.add.reduceat(shares, edges[:-1])
            if np.isinf(means).any():  # shares of the largest float may round up
                means = np.clip(means, values.min(), values.max())
            values = means
        return tuple(values.tolist())
    return ()
