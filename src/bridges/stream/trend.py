"""The trend of a run: its main metric in few values to draw."""

from __future__ import annotations

import numpy as np

from bridges.stream.model import MetricStream
from bridges.stream.naming import KeyRules

WIDTH = 48  # values of a trend


def trend(stream: MetricStream, rules: KeyRules, width: int = WIDTH) -> tuple[float, ...]:
    """At most `width` values of the main metric: the means of equal parts of its finite values."""
    for key in rules.main_keys(stream)[:1]:
        values = stream.column(key)[1]
        values = values[np.isfinite(values)]
        if len(values) > width:
            edges = np.arange(width + 1) * len(values) // width
            sizes = edges[1:] - edges[:-1]
            shares = values / np.repeat(sizes, sizes)  # a sum of values could be infinite
            with np.errstate(over="ignore"):
                means = np.add.reduceat(shares, edges[:-1])
            if np.isinf(means).any():  # the shares of the greatest number round up
                means = np.clip(means, values.min(), values.max())
            values = means
        return tuple(values.tolist())
    return ()
