"""The step of each value, by the x-axes of the metrics.

The step of a key is the first of: the column chosen by the user; the step metric of the key's
definition, or of the longest matching glob; `train/global_step` of the Trainer's runs;
`global_step` of runs synced from event files; `_step`. A metric is a step only where it
has a whole number in all rows of the key and, unless the user chose it, never decreases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridges.formats.wandb_log.records import MetricDefinition
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Int64, Series
from bridges.stream.tagging import named

STEP = "_step"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """n rows: their `_step`, and the positions of their logs (int64, n each)."""

    step: Int64
    log: Int64

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Choice:
    """The step metric of a key; `is_fallback`: another one was defined, but cannot be used."""

    metric: str
    defined: str = ""
    is_fallback: bool = False


class StepChooser:
    """Chooses the steps of the keys of a run.

    `default` is the metric of keys without a definition, `forced` the metric of all keys.
    """

    def __init__(
        self,
        rows: Rows,
        series: Sequence[Series],
        definitions: Sequence[MetricDefinition],
        default: str = STEP,
        forced: str | None = None,
    ) -> None:
        self._rows, self._default, self._forced = rows, default, forced
        self._exact = {
            each.name: each.step_metric
            for each in definitions
            if not each.is_glob and not each.is_expanded
        }
        self._globs = {
            each.name.removesuffix("*"): each.step_metric for each in definitions if each.is_glob
        }
        self._integers = {part.key: part for part in series if part.values.dtype == np.int64}
        self._steps = {STEP: (rows.step, np.ones(len(rows), bool))}
        self.ambiguous: dict[str, None] = {}  # keys with two globs of different step metrics

    def steps(self, metric: str) -> Int64:
        """The values of a step metric (int64, n); 0 where it has no integer."""
        return self._values(metric)[0]

    def _values(self, metric: str) -> tuple[Int64, Mask]:
        """The integers of a metric (int64, n), and whether each row has one."""
        if metric not in self._steps:
            values, has_value = np.zeros(len(self._rows), np.int64), np.zeros(len(self._rows), bool)
            if metric in self._integers:
                part = self._integers[metric]
                values[part.rows], has_value[part.rows] = part.values, True
            self._steps[metric] = values, has_value
        return self._steps[metric]

    def choice(self, key: str, rows: Int64) -> Choice:
        """The step metric of a key with values in these rows."""
        defined = self._forced or self._defined(key) or self._default
        if self._is_usable(defined, rows):
            return Choice(defined, defined)
        is_default = defined == self._default and self._forced is None and not self._defined(key)
        return Choice(STEP, defined, is_fallback=not is_default)

    def _defined(self, key: str) -> str:
        """The defined step metric of a key; empty: none."""
        if self._exact.get(key):
            return self._exact[key]
        if key.startswith("_"):
            return ""
        matching = (prefix for prefix in self._globs if key.startswith(prefix))
        found = [prefix for prefix in matching if self._globs[prefix]]
        if not found:
            return ""
        if len({self._globs[prefix] for prefix in found}) > 1:
            self.ambiguous[key] = None
        return self._globs[max(found, key=len)]

    def _is_usable(self, metric: str, rows: Int64) -> bool:
        values, has_value = self._values(metric)
        if not has_value[rows].all():
            return False
        if metric == self._forced:
            return True
        is_lower = np.diff(values[rows]) < 0
        return not (is_lower & (np.diff(self._rows.log[rows]) == 0)).any()


def choose_steps(
    chooser: StepChooser, series: Sequence[Series]
) -> tuple[dict[str, str], list[Finding]]:
    """The step metric of each key, and findings about the choice."""
    rows: dict[str, list[Int64]] = {}
    for part in series:
        rows.setdefault(part.key, []).append(part.rows)
    choices = {
        key: chooser.choice(key, np.sort(np.concatenate(parts))) for key, parts in rows.items()
    }
    return {key: choice.metric for key, choice in choices.items()}, _findings(choices, chooser)


def _findings(choices: Mapping[str, Choice], chooser: StepChooser) -> list[Finding]:
    found = []
    by_metric: dict[str, list[str]] = {}
    for key, choice in choices.items():
        if choice.metric != STEP:
            by_metric.setdefault(choice.metric, []).append(key)
    for metric, keys in by_metric.items():
        message = f"their steps are the values of {metric!r}, the x-axis of these metrics"
        found.append(Finding("step-metric", Severity.INFO, named(keys), message, len(keys)))
    failed: dict[str, list[str]] = {}
    for key, choice in choices.items():
        if choice.is_fallback:
            failed.setdefault(choice.defined, []).append(key)
    for metric, keys in failed.items():
        message = (
            f"{metric!r} is the x-axis of these metrics, but it is missing in a row of them, not a "
            "whole number, or decreases: their steps are those of W&B (_step)"
        )
        found.append(Finding("step-fallback", Severity.WARNING, named(keys), message, len(keys)))
    if chooser.ambiguous:
        keys = [*chooser.ambiguous]
        message = "several patterns of define_metric match: the longest one gives the step"
        found.append(Finding("two-globs", Severity.INFO, named(keys), message, len(keys)))
    return found


def placed(
    rows: int, series: Sequence[Series], metrics: Mapping[str, str], chooser: StepChooser
) -> tuple[list[Series], Int64, Int64]:
    """The series in rows of one step each.

    Returns the series, and the original row and the step of each new row (int64). A row whose
    values have different steps becomes several rows; a row without values is left out.
    """
    names = sorted(set(metrics.values()), key=lambda name: (name != STEP, name))
    steps = np.stack([chooser.steps(name) for name in names]) if names else np.empty((0, rows))
    has_values = np.zeros((len(names), rows), bool)
    for part in series:
        has_values[names.index(metrics[part.key]), part.rows] = True
    owner = np.tile(np.arange(len(names))[:, None], (1, rows))  # the choice whose row is used
    for later in range(len(names)):
        for earlier in range(later):
            is_same = has_values[later] & has_values[earlier] & (steps[later] == steps[earlier])
            is_same &= owner[later] == later
            owner[later, is_same] = owner[earlier, is_same]
    is_own = has_values & (owner == np.arange(len(names))[:, None])
    position = (np.cumsum(is_own.T.ravel()) - 1).reshape(rows, len(names))
    moved = []
    for part in series:
        choice = names.index(metrics[part.key])
        at = position[part.rows, owner[choice, part.rows]]
        moved.append(Series(part.key, at, part.values))
    original, choice_of = np.nonzero(is_own.T)
    return moved, original, steps[choice_of, original].astype(np.int64)
