"""The rules for the keys of a Trainer's log, as the layout of a run asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridges.huggingface import durations, row_kinds
from bridges.huggingface.callback_naming import CallbackNaming
from bridges.stream.model import Evidence, Float64, MetricStream
from bridges.stream.naming import Naming
from bridges.stream.options import Version


@dataclass(frozen=True)
class TrainerRules:
    """The keys of `log_history`, named by the live callback of each target."""

    def naming(self, target: str, style: str, version: Version) -> Naming:
        """The rules of the callback of that release, or the raw keys."""
        return CallbackNaming(target, style, version)

    def is_measured(self, key: str) -> bool:
        """Loss, grad_norm and metrics are; learning rate, epoch and durations are not."""
        return row_kinds.is_measured(key)

    def main_keys(self, stream: MetricStream) -> list[str]:
        """The loss, or what stands for it, and the main metric of evaluation."""
        return row_kinds.main_keys(stream)

    def evidence(self, stream: MetricStream) -> Sequence[Evidence]:
        """The `train_runtime` of training rows and of the summary row."""
        return durations.durations(stream)

    def own_seconds(self, stream: MetricStream) -> Float64:
        """The runtime of each evaluation."""
        return durations.eval_seconds(stream)


TRAINER_RULES = TrainerRules()
