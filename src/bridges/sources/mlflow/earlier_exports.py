"""Runs in MLflow from an earlier export: they keep their stored run key.

Exporting them onward continues the run of a direct export. The metrics of a Trainer's run get the
names of the Trainer's callback in each target again; a copy of a run of another MLflow store, to
which a server gave a new id, keeps its metrics' names. Keys of another tracker regain the
characters that MLflow refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from bridges.formats.mlflow_store.records import (
    ACTIVE,
    GROUP_TAG,
    KEY_TAG,
    STATE_TAG,
    SUPERSEDED_TAG,
    RunHead,
)
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run

TRAINER, TAGS = "trainer", "tags"  # key styles
_FLAGS = {"callback": "callback-version"}  # other names of options in states


def as_exported(run: Run, head: RunHead) -> Run:
    """The run with the key and the names of its export; unchanged if there was none."""
    run = _with_original_keys(run, head.renamed)
    key, tags = stored_key(head), head.tags
    if not key:
        options = _options(tags.get(STATE_TAG, ""))
        return run if not options else replace(run, findings=(*run.findings, _as_stored(options)))
    run = replace(run, key=key)
    if _style(tags[STATE_TAG]) == TAGS:
        return run
    group = tags.get(GROUP_TAG)
    return replace(run, key_style=TRAINER, group=group, project=None, parents=(), facts={})


def _with_original_keys(run: Run, renamed: Mapping[str, str]) -> Run:
    """The run with the keys of its source in place of their names in MLflow."""
    taken = {*run.stream.keys}
    keys = {name: key for name, key in renamed.items() if name in taken and key not in taken}
    if not keys:
        return run
    series = [part.under(keys.get(part.key, part.key)) for part in run.stream.series]
    series.sort(key=lambda part: part.key)
    return replace(run, stream=replace(run.stream, series=tuple(series)))


def stored_key(head: RunHead) -> str:
    """The run key stored by an export; empty if there is none, or if the run is read as it is.

    That holds for exports with special options such as the x-axis, for an incomplete export of a
    Trainer's run, and for a deleted copy: beside it may be an active one with the same key.
    """
    style = _style(head.tags.get(STATE_TAG, ""))
    if style is None or (style == TAGS and head.stage != ACTIVE):
        return ""
    return head.tags.get(KEY_TAG, "")


def is_superseded(head: RunHead) -> bool:
    """Whether the run was deleted by an export because a concurrent export wrote it, too."""
    return SUPERSEDED_TAG in head.tags


def _options(state: str) -> Mapping[str, str]:
    """The options that changed steps, names or points of an export."""
    if state:
        with suppress(ValueError, KeyError, TypeError):
            return dict(json.loads(state)["layout"])
    return {}


def _as_stored(options: Mapping[str, str]) -> Finding:
    chosen = " ".join(f"--{_FLAGS.get(name, name)} {value}" for name, value in options.items())
    message = (
        "an earlier export wrote this run with these options; it is read as MLflow holds it, and "
        "is another run than its original"
    )
    return Finding("exported-with-options", Severity.INFO, chosen, message)


def _style(state: str) -> str | None:
    """The style of the keys in the state of a continued export, else None."""
    if not state:
        return None
    try:
        found = json.loads(state)
        style = found.get("style", TRAINER)
        is_incomplete = style == TRAINER and "pending" in found
        return None if found["layout"] or is_incomplete else style
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
