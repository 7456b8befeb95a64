"""Runs of earlier exports: they keep their key, so exporting them onward changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridges.sources.wandb.trainer import STEP_KEY
from bridges.sources.wandb.values import OWN
from bridges.stream.model import Series

EXPORTED_STEP = "global_step"  # the step of runs whose keys are tags
WRITTEN = "Written by bridges from "  # begins the lines of an export in the notes
TAG_PREFIX = "tag/"  # before wandb's reserved keys
KEY, STATE, RECEIPT = "bridges_key", "bridges", "bridges_mark"  # in the config
RESERVED = frozenset({"", STEP_KEY, EXPORTED_STEP, *OWN})


@dataclass(frozen=True)
class Earlier:
    """The export behind a run, by its config.

    params: the config without its own values
    key: the stored run key; None for other programs, and for exports with special options
    style: `trainer` or `tags`; empty if unknown
    """

    params: Mapping[str, object]
    key: str | None = None
    style: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the log has the types of the original numbers."""
        return self.key is not None


def earlier_export(config: Mapping[str, object]) -> Earlier:
    """The export behind a run with this config."""
    params = {key: value for key, value in config.items() if key not in (KEY, STATE, RECEIPT)}
    state, key = config.get(STATE), config.get(KEY)
    try:
        found: Any = json.loads(state["state"]) if isinstance(state, dict) else None
        is_plain = not (found["layout"] or "pending" in found or "added" in found)
        style = str(found.get("style", "trainer"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Earlier(params)
    if not isinstance(key, str) or not is_plain:
        return Earlier(params)
    return Earlier(params, key, style)


def original_keys(series: Sequence[Series]) -> list[Series]:
    """The series of a run of tags without its steps, under the keys before the export."""
    return [part.under(_original(part.key)) for part in series if part.key != EXPORTED_STEP]


def _original(key: str) -> str:
    name = key.removeprefix(TAG_PREFIX)
    return name if name in RESERVED else key


def original_note(notes: str) -> str:
    """The notes without the lines of an export."""
    return notes.partition(WRITTEN)[0].rstrip("\n") if WRITTEN in notes else notes
