"""Results files that changed after the first version of bridges exported them.

The first version stored the rows of results files as history. If such a file changes, the digest of
these rows cannot be computed from the source again, so the rows are read back from the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bridges.exporters.base import ExistingRun, Exporter, as_stored
from bridges.exporters.state import State
from bridges.pipeline.compare import holds_rows
from bridges.pipeline.stored_rows import stored_rows
from bridges.pipeline.target import Target
from bridges.sources.sidecars.results import EARLIER_PREFIXES
from bridges.stream.added import AddedRow, arranged, rows_of
from bridges.stream.identity import prefix_digest
from bridges.stream.layout import EARLIEST_RULES, Stored
from bridges.stream.model import MetricStream, Run


def with_earlier_results(
    run: Run, state: State, existing: ExistingRun, target: Target
) -> State | None:
    """The state of an existing run with its last rows counted as added rows.

    None if these rows are not results of the first version, or if the rows before them are not the
    history of the run.
    """
    is_later = state.rules > EARLIEST_RULES or bool(state.added) or state.pending is not None
    if is_later or run.key_style != "trainer":
        return None
    stored = None
    for count in range(1, len(EARLIER_PREFIXES) + 1):
        history = state.rows - count
        if not 0 < history <= len(run.history):
            continue
        stored = stored or stored_rows(run, existing, state.rows, target)
        if stored is None:
            return None
        added = _results_in(stored, history, run, target.exporter)
        found = replace(state, digest=prefix_digest(run.history, history), added=added)
        if added and _holds(run, found, existing, target):
            return found
    return None


def _results_in(
    stored: MetricStream, history: int, run: Run, exporter: Exporter
) -> tuple[AddedRow, ...]:
    """The stored rows after the history, with the exact values that a file still has.

    Empty if a row has keys that no results file of the first version had.
    """
    exact: dict[str, object] = {}
    for values in (*run.earlier_added, *(row.values for row in rows_of(run.stream, run.added))):
        exact |= values
    step, rows = int(run.history.step[history - 1]), []
    for row in rows_of(stored, range(history, len(stored))):
        keys = row.values.keys()
        if not any(all(key.startswith(one) for key in keys) for one in EARLIER_PREFIXES):
            return ()
        values = {key: _exact(key, value, exact, exporter) for key, value in row.values.items()}
        rows.append(replace(row, step=step, values=values))
    return tuple(rows)


def _exact(key: str, value: float, exact: Mapping[str, object], exporter: Exporter) -> object:
    """The value of a file, if it is stored as `value`; else `value` itself."""
    found = exact.get(key)
    if not isinstance(found, (int, float)):
        return value
    stored = as_stored(exporter, np.array([found])).astype(np.float64)
    return found if np.array_equal(stored, [value], equal_nan=True) else value


def _holds(run: Run, state: State, existing: ExistingRun, target: Target) -> bool:
    """Whether the target holds the rows that the state describes."""
    first = run.history.take(np.arange(state.history))
    alone = replace(run, stream=first, added=(), evidence=(), logged=(), logs=())
    alone = arranged(alone, state.added)
    layout = target.lay_out(alone, target.identity(alone), Stored(rules=state.rules))
    return holds_rows(layout, target.exporter.read_back(existing), target.exporter)
