"""Run keys of a history as tuning tools log it: an export of the log alone has stored it so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bridges.sources.tuning_logs.formats import MS_SWIFT
from bridges.stream.identity import first_values, key_of
from bridges.stream.model import Run

# the metrics in LLaMA-Factory's log, under the Trainer's keys
_FACTORY = frozenset({"loss", "eval_loss", "predict_loss", "reward", "rewards/accuracies"})


def keys_in_logs(run: Run, options: Mapping[str, str]) -> Iterator[str]:
    """The run keys in the logs of LLaMA-Factory and of ms-swift, which know no trials.

    `options` are the choices of the layout that are not the default.
    """
    history, rules = run.history, run.key_rules
    factory = [part for part in history.numbers if part.key in _FACTORY]
    if factory:
        yield key_of(first_values(history, factory), None, options)
    swift = [part for part in history.numbers if rules.is_measured(part.key)]
    if swift:
        yield key_of(first_values(history, swift, MS_SWIFT.digits), None, options)
