"""The last and best value of a metric, and the metrics that a list of runs shows by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bridges.stream.model import Run

LOWER_IS_BETTER = (
    "loss", "perplexity", "ppl", "nll", "error", "wer", "cer", "ter", "eer", "mae", "mse", "rmse",
    "mape", "fid",
)  # fmt: skip
_LOWER = re.compile(rf"(?<![a-z])(?:{'|'.join(LOWER_IS_BETTER)})(?![a-z])")
_SCORE = re.compile(r"eval[_/](?!.*(?:_samples|_time|_mem_\w+)$)")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of one run: values in row order, extremes of the finite ones.

    `best` is `min` or `max`, at `best_step`; all three are None without a finite value.
    """

    first: float
    last: float
    min: float | None
    max: float | None
    best: float | None
    best_step: int | None


def metric(run: Run, key: str) -> Metric | None:
    """The metric of this key; None if the run has no number under it."""
    rows, values = run.stream.column(key)
    if not len(values):
        return None
    first, last = values[0].item(), values[-1].item()
    finite = np.isfinite(values)
    if not finite.any():
        return Metric(first, last, None, None, None, None)
    rows, values = rows[finite], values[finite]
    at = int(values.argmin() if lower_is_better(key, run.params) else values.argmax())
    low, high = values.min().item(), values.max().item()
    return Metric(first, last, low, high, values[at].item(), run.stream.step[rows[at]].item())


def lower_is_better(key: str, params: Mapping[str, object]) -> bool:
    """Whether the best value of a metric is its minimum.

    `greater_is_better` decides for the metric that the training selected its best model by; for
    others, a word of `LOWER_IS_BETTER` in the key.
    """
    chosen, greater = params.get("metric_for_best_model"), params.get("greater_is_better")
    if isinstance(greater, bool) and key in (chosen, f"eval_{chosen}"):
        return not greater
    return _LOWER.search(key.lower()) is not None


def main_metrics(run: Run) -> list[str]:
    """The keys of the loss, the evaluation loss and the main evaluation metric, if logged.

    The main one selects the best model, else it is the first score of an evaluation.
    """
    main = run.key_rules.main_keys(run.stream)
    keys = [*dict.fromkeys(series.key for series in run.stream.numbers)]
    chosen = run.params.get("metric_for_best_model")
    named = [key for key in (f"eval_{chosen}", chosen) if key in keys]
    scores = [key for key in keys if _SCORE.match(key) and run.key_rules.is_measured(key)]
    scores = [key for key in scores if not _LOWER.search(key.lower())]
    return [*main, *[key for key in (*named, *scores) if key not in main][:1]]
