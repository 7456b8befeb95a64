"""The run keys of a history in its tuning-tool log form, as stored by exports of the log alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridges.huggingface.trainer_keys import TRAINER_RULES
from bridges.sources.tuning_logs.formats import MS_SWIFT, is_of_process
from bridges.stream.identity import first_values, key_of
from bridges.stream.model import MetricStream, Run

# Trainer keys of the metrics in LLaMA-Factory's log
_FACTORY = frozenset({"loss", "eval_loss", "predict_loss", "reward", "rewards/accuracies"})


def keys_in_logs(run: Run, options: Mapping[str, str]) -> Iterator[str]:
    """The run keys that logs of LLaMA-Factory and ms-swift give a run; these have no trials.

    `options`: the non-default layout options. The first version also computed keys from speed and
    memory, which a state may contain.
    """
    history, rules = run.history, run.key_rules
    factory = [part for part in history.numbers if part.key in _FACTORY]
    if factory:
        yield key_of(first_values(history, factory), None, options)
    measured = [part for part in history.numbers if rules.is_measured(part.key)]
    of_state = [part for part in measured if not is_of_process(part.key)]
    for swift in [of_state] if len(of_state) == len(measured) else [of_state, measured]:
        if swift:
            yield key_of(first_values(history, swift, MS_SWIFT.digits), None, options)


def log_identity(log: MetricStream) -> tuple[Any, ...]:
    """The first measured values of a log without those of speed and memory, which no state holds;
    empty if the first row has none of these.
    """
    measured = [part for part in log.numbers if TRAINER_RULES.is_measured(part.key)]
    of_state = [part for part in measured if not is_of_process(part.key)]
    if not of_state:
        return ()
    first = first_values(log, of_state)
    return () if first == first_values(log, measured) else tuple(first)
