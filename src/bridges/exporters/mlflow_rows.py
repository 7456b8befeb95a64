"""A layout becomes what MLflow keeps of a run: params, tags, and metric columns. Pure.

Limits are those of the tracking store (mlflow/utils/validation.py); what does not fit is a finding
and is never cut.
"""

from __future__ import annotations

import getpass
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridges.errors import ExportError
from bridges.exporters.base import Held
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.model import Float64, Int64, Series
from bridges.stream.redact import redact_text

LONGEST_KEY = 250  # characters
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LARGEST = 1.7976931348623157e308  # what the SQL stores keep of an infinity
KEY_TAG = "bridges.key"
STATE_TAG = "bridges.state"
STATUS = {"finished": "FINISHED", "unfinished": "KILLED", "unknown": "FINISHED"}
_KEY = re.compile(r"[/\w.\- :]*\Z")


@dataclass(frozen=True)
class MetricColumn:
    """The points of one key: value (float64), is_nan (bool), time (ms) and step (int64), n each."""

    key: str
    value: Float64
    is_nan: NDArray[np.bool_]
    time: Int64
    step: Int64


def stored(values: NDArray[Any]) -> Float64:
    """Numbers as the SQL stores keep them: infinities clamped, no negative zero."""
    return np.clip(np.asarray(values, np.float64), -LARGEST, LARGEST) + 0.0


def is_key(key: str) -> bool:
    """Whether MLflow takes the key of a metric, param or tag."""
    plain = len(key) <= LONGEST_KEY and _KEY.match(key) is not None and key not in ("", ".")
    return plain and posixpath.normpath(key) == key and not key.startswith(("/", ".."))


def fit(layout: Layout) -> Layout:
    """The layout without the metrics whose keys MLflow refuses, with a finding for each."""
    refused = {part.key for part in layout.stream.series if not is_key(part.key)}
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


def params(layout: Layout) -> tuple[dict[str, str], list[Finding]]:
    """The settings as MLflow params; what is too long is left out, as live."""
    kept, findings = {}, []
    for key, value in layout.run.params.items():
        text = str(value)
        if is_key(key) and len(text) <= LONGEST_PARAM:
            kept[key] = text
        else:
            message = "MLflow does not take this setting as a param, as live"
            findings.append(Finding("param-refused", Severity.WARNING, f"param {key!r}", message))
    return kept, findings


def refused_tags(layout: Layout) -> list[Finding]:
    """The tags of the user that MLflow does not take."""
    message = "MLflow does not take this tag: its key or its value is not allowed"
    return [
        Finding("tag-refused", Severity.WARNING, f"tag {key!r}", message)
        for key, value in layout.run.tags.items()
        if not is_tag(key, value)
    ]


def is_tag(key: str, value: str) -> bool:
    """Whether MLflow takes a tag as it is."""
    return is_key(key) and len(value) <= LONGEST_TAG


def tags(layout: Layout, cuts: tuple[int, ...]) -> dict[str, str]:
    """What names the run, for people and for the next export."""
    run, clock = layout.run, layout.clock
    own = {
        "mlflow.note.content": _note(layout),
        "mlflow.runName": run.name,
        "mlflow.source.name": redact_text(posixpath.basename(run.source))[:LONGEST_TAG],
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        KEY_TAG: layout.key,
        STATE_TAG: _state(layout, cuts),
        "bridges.clock": f"{clock.source}, origin {clock.origin}",
    }
    if run.group:
        own["bridges.group"] = run.group
    given = {key: value for key, value in run.tags.items() if is_tag(key, value)}
    return {**given, **own}


def _state(layout: Layout, cuts: tuple[int, ...]) -> str:
    """The state tag. After very many writes it forgets the earlier ones, which only the policy to
    keep the last of duplicates needs. Raises ExportError where that is the policy.
    """
    state = {
        "rows": layout.rows,
        "digest": layout.digest,
        "clock": layout.clock.source,
        "cuts": cuts,
        "layout": dict(layout.identity),
    }
    text = json.dumps(state)
    if len(text) <= LONGEST_TAG:
        return text
    if layout.identity.get("duplicates") == "last":
        raise ExportError(
            f"the run was written in {len(cuts)} parts, more than MLflow's tags can tell with "
            "--duplicates last. Delete it there and export it in one piece with --force."
        )
    return json.dumps({**state, "cuts": cuts[-1:]})


def parse_state(text: str) -> dict[str, Any]:
    """The content of the state tag. Raises ValueError or KeyError for others."""
    state = json.loads(text)
    if state["rows"] != state["cuts"][-1] or not state["digest"]:
        raise ValueError(text)
    return dict(state)


def held_from(name: str, location: str, key: str, text: str) -> Held:
    """The run that a state tag speaks of. Raises ValueError or KeyError for another text."""
    state = parse_state(text)
    return Held(
        name=name,
        location=location,
        key=key,
        rows=state["rows"],
        digest=state["digest"],
        clock=state["clock"],
        cuts=tuple(state["cuts"]),
    )


def _user() -> str:
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
    return "\n".join(lines)[:LONGEST_TAG]
