"""The course of a run: which metrics stand for it, and the main one in few values to draw."""

from __future__ import annotations

import numpy as np

from bridges.stream.identity import is_measured
from bridges.stream.model import MetricStream

WIDTH = 48  # values of a course


def main_keys(stream: MetricStream) -> list[str]:
    """The loss, or what stands for it, and the main metric of evaluation."""
    keys = dict.fromkeys(series.key for series in stream.numbers if is_measured(series.key))
    scores = [key for key in keys if key.startswith("eval_") and not key.endswith("_samples")]
    others = [key for key in keys if not key.startswith(("eval_", "test_", "predict_"))]
    ways = (("loss", "train_loss", *others), ("eval_loss", *scores))
    return [next(key for key in way if key in keys) for way in ways if keys.keys() & {*way}]


def course(stream: MetricStream, width: int = WIDTH) -> tuple[float, ...]:
    """At most `width` values of the main metric: the means of equal parts of its finite values."""
    for key in main_keys(stream)[:1]:
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
