"""The rows of an existing run, rebuilt from the points of its target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridges.errors import VerifyError
from bridges.exporters.base import ExistingRun
from bridges.huggingface.trainer_keys import row_kinds
from bridges.pipeline.target import Target
from bridges.stream.model import MetricStream, Run, Series
from bridges.stream.naming import Naming

_PREFIXES = (("train/", ""), ("eval/", "eval_"), ("test/", "test_"), ("", ""))


def stored_rows(run: Run, existing: ExistingRun, rows: int, target: Target) -> MetricStream | None:
    """The rows of an existing run under the keys of their tags, with float64 values.

    Points of one time are one row. None if the number of rows is not `rows`, or if the key of a
    tag is unknown.
    """
    exporter, options = target.exporter, target.options
    naming = run.key_rules.naming(exporter.naming, options.naming, options.release)
    try:
        points = exporter.read_back(existing).points
    except VerifyError:
        return None
    times = np.unique(np.concatenate([part.time for part in points.values()] or [np.empty(0)]))
    keys = {tag: key for tag in points if (key := _key_of(tag, run.stream.keys, naming))}
    if len(times) != rows or keys.keys() != points.keys():
        return None
    step, series = np.zeros(rows, np.int64), []
    for tag, part in points.items():
        order = np.argsort(part.time, kind="stable")
        at = np.searchsorted(times, part.time[order])
        step[at] = part.step[order]
        series.append(Series(keys[tag], at, part.value[order].astype(np.float64)))
    return MetricStream(step, row_kinds(rows, series), tuple(series))


def _key_of(tag: str, keys: Sequence[str], naming: Naming) -> str | None:
    """The key of a tag: a key of the run, or a key that only the log had."""
    guesses = (key + tag[len(prefix) :] for prefix, key in _PREFIXES if tag.startswith(prefix))
    return next((key for key in (*keys, *guesses) if naming.tag(key) == tag), None)
