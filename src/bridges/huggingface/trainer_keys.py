"""The rows and keys of a Trainer's log: the kind of each row, and the rules for keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.huggingface import durations
from bridges.huggingface.callback_naming import CallbackNaming
from bridges.huggingface.callback_releases import LATEST, parse_version
from bridges.stream.model import Evidence, Float64, MetricStream, RowKind, Series
from bridges.stream.naming import Naming

TRAIN_KEYS = ("loss", "learning_rate", "grad_norm")
NOT_MEASURED = frozenset(
    {"epoch", "learning_rate", "num_input_tokens_seen", "total_flos", "train_runtime"}
)


def row_kinds(rows: int, series: Sequence[Series]) -> NDArray[np.uint8]:
    """The `RowKind` of each row (uint8), from its keys.

    A summary row has `train_loss` and `total_flos`, or (transformers up to 4.1) `total_flos` and no
    training or evaluation metric. `train_runtime` alone does not make a summary row, because token
    counting writes it into every training row.
    """
    eval_, test, train = (np.zeros(rows, bool) for _ in range(3))
    has = {key: np.zeros(rows, bool) for key in ("train_loss", "total_flos")}
    for part in series:
        if part.key.startswith("eval_"):
            eval_[part.rows] = True
        elif part.key.startswith("test_"):
            test[part.rows] = True
        elif part.key in TRAIN_KEYS:
            train[part.rows] = True
        elif part.key in has:
            has[part.key][part.rows] = True
    summary = has["total_flos"] & (has["train_loss"] | ~(train | eval_ | test))
    kind = np.full(rows, RowKind.CUSTOM, np.uint8)
    for mask, value in (
        (train, RowKind.TRAIN),
        (test, RowKind.TEST),
        (eval_, RowKind.EVAL),
        (summary, RowKind.SUMMARY),
    ):
        kind[mask] = value
    return kind


@dataclass(frozen=True)
class TrainerRules:
    """The keys of `log_history`, named by the live callback of each target."""

    def naming(self, target: str, style: str, release: str | None) -> Naming:
        """The naming rules of the callback in that release, or the raw keys."""
        return CallbackNaming(target, style, parse_version(release) if release else LATEST)

    def is_measured(self, key: str) -> bool:
        """Whether a key is measured, like loss and metrics, and unlike rates and durations."""
        return key not in NOT_MEASURED and not key.endswith(("_runtime", "_per_second"))

    def main_keys(self, stream: MetricStream) -> list[str]:
        """The key of the loss, or of a substitute, and of the main evaluation metric."""
        keys = dict.fromkeys(
            series.key for series in stream.numbers if self.is_measured(series.key)
        )
        scores = [key for key in keys if key.startswith("eval_") and not key.endswith("_samples")]
        others = [key for key in keys if not key.startswith(("eval_", "test_", "predict_"))]
        ways = (("loss", "train_loss", *others), ("eval_loss", *scores))
        return [next(key for key in way if key in keys) for way in ways if keys.keys() & {*way}]

    def evidence(self, stream: MetricStream) -> Sequence[Evidence]:
        """Evidence from `train_runtime` in training rows and the summary row."""
        return durations.durations(stream)

    def own_seconds(self, stream: MetricStream) -> Float64:
        """The runtime of the evaluation in each row, in seconds."""
        return durations.eval_seconds(stream)


TRAINER_RULES = TrainerRules()
