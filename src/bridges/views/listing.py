"""A list of runs: one entry a run, with the values of any columns.

Columns are the `FACTS` of a run; `params.KEY`; `params`, the differing ones; and metrics: `KEY` is
the last value, `KEY:best` (or one of the other `VALUES`) another one.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from bridges.errors import ConfigError
from bridges.sources.trainer.discovery import natural
from bridges.stream.clock import clocked
from bridges.stream.model import Run
from bridges.stream.redact import redact_message
from bridges.views.metrics import Metric, main_metrics, metric
from bridges.views.params import ABSENT, ParamTable, params_of

FACTS = ("name", "source", "group", "status", "rows", "steps", "epochs", "seconds")
VALUES = ("first", "last", "min", "max", "best", "best_step")
PARAMS, PARAM = "params", "params."


class Listing:
    """The entries of runs, which themselves are not kept.

    `columns` are those to keep (empty: the default ones), `sort` is a column, with `-` before it
    for a falling order.
    """

    def __init__(self, columns: Sequence[str] = (), sort: str = "") -> None:
        self._asked = tuple(columns)
        self._sort = sort.removeprefix("-")
        self._falls = sort.startswith("-")
        self._metrics_asked = [name for name in (*columns, self._sort) if is_metric(name)]
        self._facts: list[dict[str, object]] = []
        self._metrics: list[dict[str, Metric]] = []
        self._params = ParamTable()
        self._keys: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._facts)

    def add(self, run: Run) -> int:
        """Add a run; its position."""
        self._facts.append(_facts(run, with_seconds="seconds" in (*self._asked, self._sort)))
        found = {}
        for name in (*self._metrics_asked, *(() if self._asked else main_metrics(run))):
            key = name if name in run.stream.keys else metric_of(name)
            if one := metric(run, key):
                found[key] = one
        self._metrics.append(found)
        self._params.add(params_of(run))
        self._keys |= dict.fromkeys(series.key for series in run.stream.numbers)
        return len(self) - 1

    def value(self, run: int, column: str) -> object:
        """The value of a column, None if the run has none. `params` is a dict."""
        if column in FACTS:
            return self._facts[run][column]
        if column == PARAMS:
            return self.params(run, self._params.differing())
        if column.startswith(PARAM):
            found = self._params.get(run, column.removeprefix(PARAM))
            return None if found is ABSENT else found
        metrics = self._metrics[run]
        if column in metrics:
            return metrics[column].last
        one = metrics.get(metric_of(column))
        return getattr(one, column.rpartition(":")[2]) if one else None

    def params(self, run: int, keys: Sequence[str]) -> dict[str, object]:
        """Some params of a run, without missing ones."""
        values = {key: self._params.get(run, key) for key in keys}
        return {key: value for key, value in values.items() if value is not ABSENT}

    def differing(self) -> list[str]:
        """The params without one value in all runs."""
        return self._params.differing()

    def telling(self) -> list[str]:
        """The differing params without paths, ids and other names of a run."""
        return self._params.telling()

    def metrics(self) -> list[str]:
        """The main metrics of the runs, the most frequent first."""
        counts = Counter(key for found in self._metrics for key in found)
        return [key for key, _ in counts.most_common()]

    def order(self) -> list[int]:
        """The positions of the runs, sorted. Raises ConfigError for a column that no run has."""
        self._check()
        runs = range(len(self))
        if not self._sort:
            return [*runs]
        known = {run: value for run in runs if not _is_absent(value := self.value(run, self._sort))}
        rest = [run for run in runs if run not in known]
        return [*sorted(known, key=lambda run: _rank(known[run]), reverse=self._falls), *rest]

    def _check(self) -> None:
        """Raise ConfigError for a column that no run has."""
        if not len(self):
            return
        for name in (*self._asked, *filter(None, [self._sort])):
            known = [*self._known()]
            is_known = name in known or (is_metric(name) and metric_of(name) in self._keys)
            if not is_known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(
                    f"column {name!r}: found no run that has it; expected one of "
                    f"{', '.join(FACTS)}, params.KEY, or a metric (KEY, KEY:best).{hint}"
                )

    def _known(self) -> Iterator[str]:
        yield from (*FACTS, PARAMS, *self._keys)
        yield from (f"{PARAM}{key}" for key in self._params.names())


def is_metric(column: str) -> bool:
    """Whether a column is a metric."""
    return bool(column) and column not in (*FACTS, PARAMS) and not column.startswith(PARAM)


def metric_of(column: str) -> str:
    """The key of the metric in a column such as `loss:best`."""
    key, _, value = column.rpartition(":")
    return key if value in VALUES else column


def _facts(run: Run, with_seconds: bool) -> dict[str, object]:
    steps, epochs = run.stream.step, run.stream.epoch
    epochs = epochs[~np.isnan(epochs)]
    return {
        "name": redact_message(run.path),
        "source": redact_message(run.source),
        "group": run.group,
        "status": run.status,
        "rows": len(run.stream),
        "steps": steps.max().item() if len(steps) else None,
        "epochs": epochs.max().item() if len(epochs) else None,
        "seconds": _seconds(run) if with_seconds else None,
    }


def _seconds(run: Run) -> float | None:
    """The time from the start of a run to its last row; None if no duration is known."""
    _, clock, _ = clocked(run, run.stream)
    return None if clock.source == "synthetic" else (clock.end - clock.start) / 1e6


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _rank(value: object) -> tuple[int, object]:
    """Numbers by value, then texts as people count."""
    if isinstance(value, (bool, int, float)):
        return 0, value
    return 1, natural(str(value))
