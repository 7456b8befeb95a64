"""The params, tags and metric columns of a run in MLflow, from a layout. Pure functions.

Every value that MLflow does not accept is a finding; nothing is truncated silently.
"""

from __future__ import annotations

import getpass
import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.base import Labels
from bridges.exporters.description import description
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.params import ParamRules, params_of
from bridges.exporters.mlflow.repeats import without_repeats
from bridges.exporters.mlflow.state import KEY_TAG
from bridges.stream.clock import MILLISECOND
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import EARLIEST_RULES, Layout
from bridges.stream.model import Float64, Int64, Series
from bridges.stream.naming import encodable
from bridges.stream.redact import redact_text
from bridges.stream.tagging import distinct_tags, named, renamed, under_tags

NAME_TAG, PARENT_TAG = "mlflow.runName", "mlflow.parentRunId"
EXACT = 2**53  # integers up to here are exact in float64
MAX_FLOAT64 = 1.7976931348623157e308  # the SQL stores' value for an infinity
STATUS = {"finished": "FINISHED", "unfinished": "KILLED", "unknown": "FINISHED"}


@dataclass(frozen=True)
class MetricColumn:
    """The points of one key: value (float64), is_nan (bool), time (ms) and step (int64), n each."""

    key: str
    value: Float64
    is_nan: NDArray[np.bool_]
    time: Int64
    step: Int64

    def only(self, keep: NDArray[np.bool_]) -> MetricColumn:
        """The points that the mask (bool, n) keeps."""
        return MetricColumn(
            self.key, self.value[keep], self.is_nan[keep], self.time[keep], self.step[keep]
        )


def stored(values: NDArray[Any]) -> Float64:
    """Numbers as the SQL stores hold them: infinities clamped, -0.0 as 0.0."""
    return np.clip(np.asarray(values, np.float64), -MAX_FLOAT64, MAX_FLOAT64) + 0.0


def fit(layout: Layout, limits: Limits, rules: ParamRules) -> Layout:
    """The layout with legal keys, the params to log, and times in whole milliseconds."""
    time = layout.stream.time
    assert time is not None
    series, of_keys = _with_legal_keys(layout, limits)
    params, of_params = params_of(layout, limits, rules)
    stream = replace(
        layout.stream,
        series=tuple(_in_milliseconds(part) for part in series),
        time=time // MILLISECOND * MILLISECOND,
    )
    stream, repeats = without_repeats(stream) if layout.run.key_style == "tags" else (stream, [])
    return replace(
        layout,
        stream=stream,
        params=params,
        findings=(*layout.findings, *of_keys, *of_params, *repeats),
    )


def _in_milliseconds(series: Series) -> Series:
    if series.time is None:
        return series
    return replace(series, time=series.time // MILLISECOND * MILLISECOND)


def _with_legal_keys(layout: Layout, limits: Limits) -> tuple[Sequence[Series], list[Finding]]:
    series = layout.stream.series
    legal = {key: limits.legal_key(key) for key in layout.stream.keys}
    changed = sorted(key for key, name in legal.items() if name != key)
    if not changed:
        return series, []
    points = sum(len(part.rows) for part in series if part.key in changed)
    if layout.rules == EARLIEST_RULES:  # these rules left such keys out
        kept = [part for part in series if part.key not in changed]
        return kept, [_left_out(changed, points, layout.naming.is_live)]
    if layout.run.key_style == "tags":
        legal = distinct_tags(layout.stream.keys, limits.legal_key)
    message = f"MLflow does not take these keys; the first one becomes {legal[changed[0]]!r}"
    found = renamed(changed, series, message)
    if layout.run.key_style == "tags":
        return [part.under(legal[part.key]) for part in series], [found]
    tagged, met = under_tags(series, legal, limits.legal_key)
    return tagged, [found, *met]


def _left_out(keys: list[str], points: int, is_live: bool) -> Finding:
    """The finding for a stored run without the points of these keys."""
    message = (
        "MLflow does not take these keys, and the version of bridges that wrote this run left them "
        "out. Delete the run in MLflow and export it with --force to keep them under other keys."
    )
    severity = Severity.WARNING if is_live else Severity.LOSS  # live, their rows would be lost
    return Finding("key-refused", severity, named(keys), message, points)


def started(layout: Layout) -> int:
    """The start of the run in milliseconds since 1970 UTC."""
    return layout.clock.start // MILLISECOND


def ended(layout: Layout) -> int:
    """The end of the run in milliseconds since 1970 UTC."""
    return layout.clock.end // MILLISECOND


def metric_columns(layout: Layout, start: int) -> Iterator[MetricColumn]:
    """The metrics of the rows from `start` on, key by key."""
    stream = layout.stream
    for series in stream.numbers:
        part = series.slice(start, layout.rows)
        if len(part.rows):
            value, is_nan = stored(part.values), np.isnan(np.asarray(part.values, np.float64))
            value = np.where(is_nan, 0.0, value)
            yield MetricColumn(
                part.key,
                value,
                is_nan,
                stream.times(part) // MILLISECOND,
                stream.step[part.rows],
            )


def refusals(layout: Layout, limits: Limits) -> list[Finding]:
    """Findings for tags and names that MLflow does not accept unchanged."""
    run = layout.run
    message = "MLflow does not take this tag: its key or its value is not allowed"
    found = [
        Finding("tag-refused", Severity.WARNING, f"tag {key!r}", message)
        for key, value in run.tags.items()
        if not limits.takes_tag(key, encodable(value))
    ]
    if len(encodable(run.name)) > limits.name:
        message = f"MLflow keeps {limits.name} characters of a run's name, so it was cut"
        found.append(Finding("run-name-cut", Severity.WARNING, f"run {run.name[:60]!r}", message))
    return found


def rounded(layout: Layout) -> Finding | None:
    """A finding for integers without an exact float64, the type of MLflow's values."""
    count = 0
    for part in layout.stream.numbers:
        if part.values.dtype == np.int64:
            large = part.values[np.abs(part.values.astype(np.float64)) >= EXACT].tolist()
            count += sum(int(float(value)) != value for value in large)
    if not count:
        return None
    message = "MLflow holds integers beyond 2^53 as the nearest float64, as with the live callback"
    return Finding("integer-rounded", Severity.WARNING, "all metrics", message, count)


def run_name(layout: Layout, limits: Limits) -> str:
    """The name of the run, cut to MLflow's limit."""
    return encodable(layout.run.name)[: limits.name]


def parent_key(layout: Layout) -> str | None:
    """The run key of the parent run of a trial; None for other runs."""
    if layout.run.group is None or layout.run.trial is None:
        return None
    group = encodable(f"group\n{layout.run.group}").encode()
    return hashlib.blake2b(group, digest_size=16).hexdigest()


def parent_tags(layout: Layout, limits: Limits) -> dict[str, str]:
    """The tags of the parent run of a search."""
    name = encodable(str(layout.run.group))[: limits.name]
    note = f"The trials of the search {name}, written by bridges."
    return {
        "mlflow.note.content": note,
        NAME_TAG: name,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user(),
        KEY_TAG: str(parent_key(layout)),
    }


def tags(layout: Layout, limits: Limits) -> dict[str, str]:
    """The tags of a run, without those for its state and its parent."""
    run, clock = layout.run, layout.clock
    own = {
        "mlflow.note.content": encodable(description(layout))[: limits.tag],
        NAME_TAG: run_name(layout, limits),
        "mlflow.source.name": encodable(redact_text(posixpath.basename(run.source)))[: limits.tag],
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user(),
        KEY_TAG: layout.key,
        "bridges.clock": f"{clock.source}, origin {clock.origin}",
    }
    if run.group:
        own["bridges.group"] = encodable(run.group)
    texts = {key: encodable(value) for key, value in run.tags.items()}
    given = {key: text for key, text in texts.items() if limits.takes_tag(key, text)}
    return {**given, **own}


def later_tags(layout: Layout, limits: Limits) -> dict[str, str]:
    """The tags to update on an existing run, which keeps its name."""
    return {key: text for key, text in tags(layout, limits).items() if key != NAME_TAG}


def label_tags(labels: Labels, limits: Limits) -> dict[str, str]:
    """The tags for labels of the user."""
    texts = {key: encodable(value) for key, value in labels.tags.items()}
    found = {key: text for key, text in texts.items() if limits.takes_tag(key, text)}
    if labels.group:
        found["bridges.group"] = encodable(labels.group)
    if labels.name:
        found[NAME_TAG] = encodable(labels.name)[: limits.name]
    return found


def user() -> str:
    """The name of the exporting user, as MLflow records it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
