"""The rows of a run as a target holds them, read back from its points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bridges.errors import VerifyError
from bridges.exporters.base import ExistingRun
from bridges.huggingface.trainer_keys import row_kinds
from bridges.pipeline.layouts import Placer
from bridges.stream.model import MetricStream, Run, Series
from bridges.stream.naming import Naming

_PREFIXES = (("train/", ""), ("eval/", "eval_"), ("test/", "test_"), ("", ""))


def stored_rows(run: Run, existing: ExistingRun, rows: int, placer: Placer) -> MetricStream | None:
    """The rows of an existing run under the keys of their tags, with float64 values.

    Rows are told apart by their times. None if the points do not make as many `rows` as were
    written, or if the key of a tag is not known.
    """
    exporter, options = placer.exporter, placer.options
    naming = run.key_rules.naming(exporter.naming, options.naming, options.version)
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
    """The key of a tag: one of the run, or one that only the log had."""
    guesses = (key + tag[len(prefix) :] for prefix, key in _PREFIXES if tag.startswith(prefix))
    return next((key for key in (*keys, *guesses) if naming.tag(key) == tag), None)
