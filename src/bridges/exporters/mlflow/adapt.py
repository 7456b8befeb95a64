"""Adapts a layout to MLflow: legal keys, params, times in milliseconds, and no exact repeats.

Each change, and each value that MLflow stores differently, is a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.mlflow.details import carried, carried_params, record_of
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.metric_names import names_of, stored_names
from bridges.exporters.mlflow.params import ParamRules, params_of
from bridges.exporters.mlflow.rows import MAX_FLOAT64, stored
from bridges.stream.clock import MILLISECOND
from bridges.stream.columns import are_plain
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import EARLIEST_RULES, Layout
from bridges.stream.model import Int64, MetricStream, Series
from bridges.stream.naming import encodable
from bridges.stream.tagging import named, renamed, under_tags

MAX_EXACT_INTEGER = 2**53  # integers up to here are exact in float64


def adapt(layout: Layout, limits: Limits, rules: ParamRules) -> Layout:
    """The layout with legal keys, the params to log, and times in whole milliseconds."""
    time = layout.stream.time
    assert time is not None
    series, of_keys = _with_legal_keys(layout, limits)
    params, of_details = _details(layout, limits, rules)
    stream = replace(
        layout.stream,
        series=tuple(_in_milliseconds(part) for part in series),
        time=_whole_milliseconds(time),
    )
    stream, repeats = _without_repeats(stream) if layout.run.key_style == "tags" else (stream, [])
    found = (*layout.findings, *of_keys, *of_details, *repeats, *_inexact(stream))
    return replace(layout, stream=stream, params=params, findings=found)


def _details(
    layout: Layout, limits: Limits, rules: ParamRules
) -> tuple[dict[str, str], list[Finding]]:
    """The params, and findings about params, tags and columns."""
    record = record_of(layout)
    if record is None:
        params, found = params_of(layout, limits, rules)
        return params, [*found, *_refused_labels(layout, limits)]
    params, found = carried_params(layout.params, limits)
    return params, [*found, *carried(layout, record, limits)[1]]


def _in_milliseconds(series: Series) -> Series:
    if series.time is None:
        return series
    return replace(series, time=_whole_milliseconds(series.time))


def _whole_milliseconds(time: Int64) -> Int64:
    """Times (µs) without fractions of milliseconds; the same array if it has none."""
    whole = time // MILLISECOND
    whole *= MILLISECOND
    return time if np.array_equal(whole, time) else whole


def _with_legal_keys(layout: Layout, limits: Limits) -> tuple[Sequence[Series], list[Finding]]:
    series = layout.stream.series
    legal: Mapping[str, str] = {key: limits.legal_key(key) for key in layout.stream.keys}
    changed = sorted(key for key, name in legal.items() if name != key)
    if not changed:
        return series, []
    points = sum(len(part.rows) for part in series if part.key in changed)
    if layout.rules == EARLIEST_RULES:  # these rules omitted such keys
        kept = [part for part in series if part.key not in changed]
        return kept, [_refused_keys(changed, points, layout.naming.is_live)]
    if layout.run.key_style == "tags":
        legal, stored_as = names_of(layout, limits), stored_names(layout)
        changed = [key for key in changed if stored_as.get(key) != legal[key]]
        if not changed:
            return [part.under(legal[part.key]) for part in series], []
    message = f"MLflow does not accept these keys; the first one becomes {legal[changed[0]]!r}"
    found = renamed(changed, series, message)
    if layout.run.key_style == "tags":
        return [part.under(legal[part.key]) for part in series], [found]
    tagged, met = under_tags(series, legal, limits.legal_key)
    return tagged, [found, *met]


def _refused_keys(keys: list[str], points: int, is_live: bool) -> Finding:
    """The finding for a stored run without the points of these keys."""
    message = (
        "MLflow does not accept these keys, and the version of bridges that wrote this run omitted "
        "them. Delete the run in MLflow and export it with --force to keep them under other keys."
    )
    severity = Severity.WARNING if is_live else Severity.LOSS  # the callback loses their rows too
    return Finding("key-refused", severity, named(keys), message, points)


def _without_repeats(stream: MetricStream) -> tuple[MetricStream, list[Finding]]:
    """The stream without exact repeats: MLflow stores one point per key, step, time and value."""
    by_key: dict[str, list[Series]] = {}
    for part in stream.series:
        by_key.setdefault(part.key, []).append(part)
    kept, count, merged = [], 0, 0
    for parts in by_key.values():
        if len(parts) == 1 and _is_increasing(stream.step[parts[0].rows]):  # the usual case
            kept += parts
            continue
        fresh = _is_first(stream, parts)
        if fresh.all():
            kept += parts
            continue
        is_repeat = ~_is_first(stream, parts, clamped=False)
        count += int(is_repeat.sum())
        merged += int((~fresh & ~is_repeat).sum())
        ends = np.cumsum([len(part.rows) for part in parts])
        kept += [part.only(mask) for part, mask in zip(parts, np.split(fresh, ends), strict=False)]
    if not (count or merged):
        return stream, []
    repeats = "points with equal steps, times and values: MLflow keeps one of them"
    infinities = (
        "points at the step and time of another one, from which they only differ as infinity "
        "differs from the largest float64: MLflow keeps one of them"
    )
    found = [
        Finding("exact-repeats", Severity.INFO, "all metrics", repeats, count),
        Finding("infinities-merged", Severity.LOSS, "all metrics", infinities, merged),
    ]
    series = tuple(part for part in kept if len(part.rows))
    return replace(stream, series=series), [finding for finding in found if finding.count]


def _is_first(
    stream: MetricStream, parts: list[Series], *, clamped: bool = True
) -> NDArray[np.bool_]:
    """Mask of the points of a key without their exact repeats (bool, n), by the values as MLflow
    stores them, or unless `clamped` with infinities.
    """
    rows = np.concatenate([part.rows for part in parts])
    time = np.concatenate([stream.times(part) for part in parts])
    value = np.concatenate([np.asarray(part.values, np.float64) for part in parts])
    value = stored(value) if clamped else value + 0.0
    bits = np.where(np.isnan(value), np.nan, value).view(np.int64)
    columns = np.stack([stream.step[rows], time, bits])
    order = np.lexsort((rows, *columns))
    first = np.ones(len(rows), bool)
    first[order[1:]] = (np.diff(columns[:, order], axis=1) != 0).any(axis=0)
    return first


def _is_increasing(step: Int64) -> bool:
    return len(step) < 2 or bool((step[1:] > step[:-1]).all())


def _refused_labels(layout: Layout, limits: Limits) -> list[Finding]:
    """Findings for rejected tags and a cut name."""
    run = layout.run
    message = "MLflow does not accept this tag: its key or its value is not allowed"
    found = [
        Finding("tag-refused", Severity.WARNING, f"tag {key!r}", message)
        for key, value in run.tags.items()
        if not limits.takes_tag(key, encodable(value))
    ]
    if len(encodable(run.name)) > limits.name:
        message = f"the name is cut to {limits.name} characters, MLflow's limit"
        found.append(Finding("run-name-cut", Severity.WARNING, f"run {run.name[:60]!r}", message))
    return found


def _inexact(stream: MetricStream) -> list[Finding]:
    """Findings for numbers that MLflow cannot store exactly."""
    rounded = clamped = zeros = 0
    numbers = stream.numbers
    are_floats_plain = are_plain(part.values for part in numbers if part.values.dtype == np.float64)
    for series in numbers:
        if series.values.dtype == np.float64 and not are_floats_plain:
            clamped += int(np.isinf(series.values).sum())
            zeros += int(((series.values == 0) & np.signbit(series.values)).sum())
        if series.values.dtype == np.int64:
            large = series.values[np.abs(series.values.astype(np.float64)) >= MAX_EXACT_INTEGER]
            rounded += sum(int(float(value)) != value for value in large.tolist())
    integers = "integers beyond 2^53 are stored as the nearest float64, as by the live callback"
    infinities = f"infinities are stored as ±{MAX_FLOAT64}, as by the live callback"
    negative = "-0.0 is stored as 0.0, as by the live callback"
    where = "all metrics"
    found = [
        Finding("integer-rounded", Severity.WARNING, where, integers, rounded),
        Finding("infinity-clamped", Severity.WARNING, where, infinities, clamped),
        Finding("negative-zero", Severity.INFO, where, negative, zeros),
    ]
    return [finding for finding in found if finding.count]
