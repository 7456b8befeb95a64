"""The tags and metric columns of a run in MLflow, from an adapted layout. Pure functions."""

from __future__ import annotations

import getpass
import hashlib
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from bridges.exporters.base import Labels
from bridges.exporters.description import description
from bridges.exporters.mlflow.limits import Limits
from bridges.exporters.mlflow.metric_names import changed_names
from bridges.formats.mlflow_store.records import KEY_TAG, RENAMED_TAG
from bridges.stream.clock import MILLISECOND
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64, MetricStream, Series, Values
from bridges.stream.naming import encodable
from bridges.stream.redact import redact_text

POINTS = 1 << 14  # of a metric column: bounds the memory of its copies
NAME_TAG, PARENT_TAG = "mlflow.runName", "mlflow.parentRunId"
MAX_FLOAT64 = 1.7976931348623157e308  # SQL stores hold an infinity as this
STATUS = {
    "finished": "FINISHED",
    "unfinished": "KILLED",
    "unknown": "FINISHED",
    "failed": "FAILED",
    "killed": "KILLED",
    "running": "RUNNING",
}


@dataclass(frozen=True)
class MetricColumn:
    """The points of one key: value (float64), is_nan (bool), time (ms) and step (int64), n each."""

    key: str
    value: Float64
    is_nan: NDArray[np.bool_]
    time: Int64
    step: Int64

    def only(self, keep: NDArray[np.bool_]) -> MetricColumn:
        """The points selected by a mask (bool, n)."""
        return MetricColumn(
            self.key, self.value[keep], self.is_nan[keep], self.time[keep], self.step[keep]
        )


def stored(values: Values) -> Float64:
    """Numbers as the SQL stores hold them: infinities clamped, -0.0 as 0.0."""
    finite = np.minimum(np.asarray(values, np.float64), MAX_FLOAT64)
    np.maximum(finite, -MAX_FLOAT64, out=finite)
    finite += 0.0
    return finite


def started(layout: Layout) -> int:
    """The start of the run in milliseconds since 1970 UTC."""
    return layout.clock.start // MILLISECOND


def ended(layout: Layout) -> int:
    """The end of the run in milliseconds since 1970 UTC."""
    return layout.clock.end // MILLISECOND


def metric_columns(layout: Layout, start: int) -> Iterator[MetricColumn]:
    """The metrics of the rows from `start` on, key by key; long ones in pieces of POINTS."""
    some, count = list[Series](), 0
    for part in _pieces(layout, start):
        if some and count + len(part.rows) > POINTS:
            yield from _columns(layout.stream, some)
            some, count = [], 0
        some.append(part)
        count += len(part.rows)
    if some:
        yield from _columns(layout.stream, some)


def _pieces(layout: Layout, start: int) -> Iterator[Series]:
    """The series of the rows from `start` on, of at most POINTS points each."""
    for series in layout.stream.numbers:
        part = series.slice(start, layout.rows)
        if len(part.rows) <= POINTS:
            yield part
            continue
        for at in range(0, len(part.rows), POINTS):
            yield part.only(slice(at, at + POINTS))


def _columns(stream: MetricStream, parts: Sequence[Series]) -> Iterator[MetricColumn]:
    """The columns of some series; short ones are converted together."""
    values = np.concatenate([np.asarray(part.values, np.float64) for part in parts])
    is_nan = np.isnan(values)
    value = np.where(is_nan, 0.0, stored(values))
    time = np.concatenate([stream.times(part) for part in parts]) // MILLISECOND
    step = stream.step[np.concatenate([part.rows for part in parts])]
    ends = [*accumulate((len(part.rows) for part in parts), initial=0)]
    for part, at in zip(parts, map(slice, ends, ends[1:]), strict=True):
        if len(part.rows):
            yield MetricColumn(part.key, value[at], is_nan[at], time[at], step[at])


def run_name(layout: Layout, limits: Limits) -> str:
    """The name of the run, cut to MLflow's limit."""
    return encodable(layout.run.name)[: limits.name]


def parent_key(layout: Layout) -> str | None:
    """The run key of a trial's parent run; None for other runs."""
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
    if names := json.dumps(changed_names(layout, limits)).removeprefix("{}"):
        own |= {RENAMED_TAG: names} if len(names) <= limits.tag else {}
    texts = {key: encodable(value) for key, value in run.tags.items()}
    given = {key: text for key, text in texts.items() if limits.takes_tag(key, text)}
    return {**given, **own}


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
