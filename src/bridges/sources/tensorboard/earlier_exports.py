"""Event files written by bridges: the added texts are not data of the run.

A run of tags keeps the key, note, tags and params of its export, and so its onward export
continues the run of a direct export.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bridges.sources.tensorboard.event_log import NOTE, STATE, EventLog

_FENCE = re.compile(r"\A```json\n|\n```\Z")


@dataclass(frozen=True)
class Exported:
    """The export of a run of tags: its key, note, tags and status."""

    key: str | None = None
    note: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str = "unknown"


def exported(logs: Sequence[EventLog]) -> Exported:
    """The export in some files; an empty one if they are not from bridges."""
    for log in logs:
        if STATE not in log.own_texts:
            continue
        state = _parsed(log.own_texts[STATE])
        if state.get("bridges") and state.get("style") == "tags":
            key = "" if state.get("layout") else str(state.get("key", ""))
            tags, status = state.get("tags"), str(state.get("status", "unknown"))
            named = tags.items() if isinstance(tags, dict) else ()
            shown = {str(name): str(text) for name, text in named}
            return Exported(key or None, log.own_texts.get(NOTE, ""), shown, status)
    return Exported()


def _parsed(text: str) -> Mapping[str, object]:
    try:
        found = json.loads(_FENCE.sub("", text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
