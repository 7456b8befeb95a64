"""Runs of the Trainer in MLflow, from an earlier export: they are the Trainer's again.

They keep their stored run key, and their metrics get the names of the Trainer's callback in each
target: exporting them onward continues the run of a direct export.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from bridges.formats.mlflow_store.records import GROUP_TAG, KEY_TAG, STATE_TAG
from bridges.stream.model import Run


def as_exported(run: Run, tags: Mapping[str, str]) -> Run:
    """The run with the key and the names of its export; unchanged if there was none.

    An export with special options, such as the x-axis, is read as it is.
    """
    if KEY_TAG not in tags or not _is_plain(tags.get(STATE_TAG, "")):
        return run
    group = tags.get(GROUP_TAG)
    return replace(
        run, key=tags[KEY_TAG], key_style="trainer", group=group, project=None, parents=(), facts={}
    )


def _is_plain(state: str) -> bool:
    """Whether a state belongs to a complete export of a Trainer's run without special options."""
    try:
        found = json.loads(state)
        return not (found["layout"] or "style" in found or "pending" in found)
    except (ValueError, KeyError, TypeError):
        return False
