"""Runs of the first version, which stored no settings, are told apart by the params in the target.

Only numbers are compared: targets write other values in different ways.
"""

from __future__ import annotations

import json
from contextlib import suppress

from bridges.exporters.base import Exporter, KeepsParams
from bridges.pipeline.match import Known
from bridges.stream.layout import EARLIEST_RULES
from bridges.stream.model import Run


def has_other_params(run: Run, known: Known, exporter: Exporter) -> bool:
    """Whether an existing run of the first version with equal rows has a param of another value."""
    state = known.state
    is_first = state.rules == EARLIEST_RULES and state.history == len(run.history)
    if not (is_first and run.params and known.complete and isinstance(exporter, KeepsParams)):
        return False
    stored = exporter.stored_params(known.existing)
    both = ((_number(run.params[key]), _number(stored[key])) for key in run.params if key in stored)
    return any(None not in pair and pair[0] != pair[1] for pair in both)


def _number(value: object) -> float | None:
    """The value of a number, a truth value, or the text of one; None for anything else and NaN."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value.lower())
    with suppress(OverflowError):
        if isinstance(value, (int, float)) and value == value:
            return float(value)
    return None
