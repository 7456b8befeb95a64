"""A layout becomes what MLflow keeps of a run: params, tags, and metric columns. Pure.

What MLflow does not take is a finding, and nothing is cut silently.
"""

from __future__ import annotations

import getpass
import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.mlflow_limits import Limits
from bridges.exporters.mlflow_state import KEY_TAG
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64, Series
from bridges.stream.naming import encodable
from bridges.stream.redact import redact_text

PARENT_TAG = "mlflow.parentRunId"
LARGEST = 1.7976931348623157e308  # what the SQL stores keep of an infinity
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
    """Numbers as the SQL stores keep them: infinities clamped, no negative zero."""
    return np.clip(np.asarray(values, np.float64), -LARGEST, LARGEST) + 0.0


def fit(layout: Layout, limits: Limits) -> Layout:
    """The layout without the metrics whose keys MLflow refuses, with a finding for each."""
    refused = {part.key for part in layout.stream.series if not limits.takes_key(part.key)}
    kept = tuple(part for part in layout.stream.series if part.key not in refused)
    findings = [_refused_key(key, layout.stream.series) for key in sorted(refused)]
    stream = replace(layout.stream, series=kept)
    return replace(layout, stream=stream, findings=(*layout.findings, *findings))


def _refused_key(key: str, series: tuple[Series, ...]) -> Finding:
    count = sum(len(part.rows) for part in series if part.key == key)
    shown = key if len(key) <= 60 else f"{key[:60]}…"
    message = "MLflow refuses this key, and a live run would have lost its whole rows"
    return Finding("key-refused", Severity.WARNING, f"key {shown!r}", message, count)


def metric_columns(layout: Layout, start: int) -> Iterator[MetricColumn]:
    """The metrics of the rows from `start` on, key by key."""
    stream = layout.stream
    assert stream.time is not None
    for series in stream.numbers:
        part = series.slice(start, layout.rows)
        if len(part.rows):
            value, is_nan = stored(part.values), np.isnan(np.asarray(part.values, np.float64))
            value = np.where(is_nan, 0.0, value)
            yield MetricColumn(
                part.key, value, is_nan, stream.time[part.rows], stream.step[part.rows]
            )


def params(layout: Layout, limits: Limits) -> dict[str, str]:
    """The settings as MLflow params, those that it takes."""
    texts = {key: encodable(str(value)) for key, value in layout.run.params.items()}
    return {key: text for key, text in texts.items() if limits.takes_param(key, text)}


def refusals(layout: Layout, limits: Limits) -> list[Finding]:
    """The settings, tags and names that MLflow does not take as they are."""
    run, kept = layout.run, params(layout, limits)
    param = "MLflow does not take this setting as a param, as live"
    tag = "MLflow does not take this tag: its key or its value is not allowed"
    cut = f"MLflow keeps {limits.name} characters of a run's name, so it was cut"
    found = [("param-refused", f"param {key!r}", param) for key in run.params if key not in kept]
    found += [
        ("tag-refused", f"tag {key!r}", tag)
        for key, value in run.tags.items()
        if not limits.takes_tag(key, encodable(value))
    ]
    if len(encodable(run.name)) > limits.name:
        found.append(("run-name-cut", f"run {run.name[:60]!r}", cut))
    return [Finding(code, Severity.WARNING, where, message) for code, where, message in found]


def run_name(layout: Layout, limits: Limits) -> str:
    """The name of the run, as long as MLflow keeps it."""
    return encodable(layout.run.name)[: limits.name]


def parent_key(layout: Layout) -> str | None:
    """The key of the run that a trial of a search is nested under; other runs have none."""
    if layout.run.group is None or layout.run.trial is None:
        return None
    group = encodable(f"group\n{layout.run.group}").encode()
    return hashlib.blake2b(group, digest_size=16).hexdigest()


def parent_tags(layout: Layout, limits: Limits) -> dict[str, str]:
    """What names the run that stands for a search."""
    name = encodable(str(layout.run.group))[: limits.name]
    note = f"The trials of the search {name}, written by bridges."
    return {
        "mlflow.note.content": note,
        "mlflow.runName": name,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": user(),
        KEY_TAG: str(parent_key(layout)),
    }


def tags(layout: Layout, limits: Limits) -> dict[str, str]:
    """What names the run and tells people of it; its state and its parent have tags besides."""
    run, clock = layout.run, layout.clock
    own = {
        "mlflow.note.content": encodable(_note(layout))[: limits.tag],
        "mlflow.runName": run_name(layout, limits),
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


def user() -> str:
    """Who exports, as MLflow names them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _note(layout: Layout) -> str:
    """A few lines for the run's page: where it comes from, and what its times are worth."""
    run, clock = layout.run, layout.clock
    lines = [f"Written by bridges from {redact_text(run.source, home=True)}."]
    lines += [f"- `{file.sha256}` sha256 of {file.size} bytes" for file in run.provenance]
    if clock.is_synthetic:
        lines.append(f"- Times are synthetic (clock: {clock.source}); none is real.")
    if run.writer:
        lines.append(f"- Logged by transformers {run.writer}.")
    return "\n".join(lines)
