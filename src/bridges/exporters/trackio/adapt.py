"""Adapts a layout to Trackio: its reserved keys, and values that its JSON cannot hold.

Each change is a finding.
"""

from __future__ import annotations

import math

from bridges import Layout, encodable
from bridges.exporters.changes import with_changed_values, with_legal_keys, with_steps
from bridges.exporters.trackio.rows import SPECIAL, STEP_KEY

RESERVED = frozenset({"project", "run", "timestamp", "step", "time", "metrics"})
RESERVED_BEGIN = "__"
CLEANED = (
    "Trackio stores NaN and infinity within lists and objects as texts, and takes such texts for "
    "numbers: they get quotes; lone surrogates are written as escapes"
)


def adapt(layout: Layout) -> Layout:
    """The layout with the keys and values that Trackio stores."""
    layout = with_legal_keys(with_steps(layout), _legal, "Trackio")
    return with_changed_values(layout, _plain, CLEANED)


def clean(value: object) -> object:
    """A value as JSON that every reader takes: NaN and infinities as texts, no lone surrogates."""
    if isinstance(value, dict):
        return {encodable(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return next(text for text, number in SPECIAL.items() if repr(number) == repr(value))
    if isinstance(value, str):
        return encodable(value)
    return value if value is None or isinstance(value, bool | int | float) else repr(value)


def _legal(key: str) -> str:
    is_taken = key in RESERVED or key == STEP_KEY or key.startswith(RESERVED_BEGIN)
    return f"{RESERVED_BEGIN}{key}" if is_taken else key


def _plain(value: object) -> object:
    return repr(value) if isinstance(value, str) and value in SPECIAL else clean(value)
