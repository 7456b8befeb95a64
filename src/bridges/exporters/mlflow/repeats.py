"""Exact repeats: MLflow stores one point per key, step, time and value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import MetricStream, Series


def without_repeats(stream: MetricStream) -> tuple[MetricStream, list[Finding]]:
    """The stream without exact repeats, and a finding with their count."""
    by_key: dict[str, list[Series]] = {}
    for part in stream.series:
        by_key.setdefault(part.key, []).append(part)
    kept, count = [], 0
    for parts in by_key.values():
        fresh = _is_first(stream, parts)
        count += int((~fresh).sum())
        ends = np.cumsum([len(part.rows) for part in parts])
        kept += [part.only(mask) for part, mask in zip(parts, np.split(fresh, ends), strict=False)]
    if not count:
        return stream, []
    message = "points that are there twice, with equal steps, times and values: MLflow keeps one"
    found = Finding("exact-repeats", Severity.INFO, "all metrics", message, count)
    return replace(stream, series=tuple(part for part in kept if len(part.rows))), [found]


def _is_first(stream: MetricStream, parts: list[Series]) -> NDArray[np.bool_]:
    """Mask of the points of a key that do not repeat an earlier one (bool, n)."""
    rows = np.concatenate([part.rows for part in parts])
    time = np.concatenate([stream.times(part) for part in parts])
    value = np.concatenate([np.asarray(part.values, np.float64) for part in parts]) + 0.0
    bits = np.where(np.isnan(value), np.nan, value).view(np.int64)
    columns = np.stack([stream.step[rows], time, bits])
    order = np.lexsort((rows, *columns))
    first = np.ones(len(rows), bool)
    first[order[1:]] = (np.diff(columns[:, order], axis=1) != 0).any(axis=0)
    return first
