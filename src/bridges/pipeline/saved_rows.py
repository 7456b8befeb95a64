"""Rows that were exported from event files or results files, and that a later state contains.

The target would store such a row twice: as an added row and as a row of the history. So the whole
run is written again with the exact values of the state; added rows that no state contains stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ExistingRun, Exporter, Replaces
from bridges.exporters.state import State
from bridges.pipeline.compare import compare, expected_points, holds_values
from bridges.pipeline.target import Target
from bridges.stream.added import AddedRow, joined, rows_of
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout, Stored
from bridges.stream.model import RowKind, Run


def rows_lacking(run: Run, state: State, existing: ExistingRun, target: Target) -> list[AddedRow]:
    """The added rows of the source that an existing run with a longer history lacks.

    Only values are compared: steps and epochs of added rows depend on the end of the history.
    """
    mine = rows_of(run.stream, run.added)
    unknown = [row for row in mine if not any(there.contains(row) for there in state.added)]
    if not unknown:
        return []
    recorded, exporter = target.exporter.read_back(existing), target.exporter
    nothing = run.stream.take(np.empty(0, np.int64))
    lacking = []
    for row in unknown:
        values = {key: value for key, value in row.values.items() if key != "epoch"}
        stream = joined(nothing, [replace(row, values=values)])
        alone = replace(run, stream=stream, added=(), evidence=(), logged=(), logs=())
        layout = target.lay_out(alone, target.identity(alone), Stored(rules=state.rules))
        if not holds_values(layout, recorded, exporter):
            lacking.append(row)
    return lacking


def saved_since(run: Run, state: State) -> list[AddedRow]:
    """The added rows of an existing run that the history now contains."""
    history = run.history
    if not state.added or len(history) <= state.history:
        return []
    is_alike = np.isin(history.step, [row.step for row in state.added])
    later = np.flatnonzero(is_alike | (history.kind != RowKind.TRAIN))
    saved = rows_of(history, later[later >= state.history].tolist())
    return [row for row in state.added if any(_is_saved(row, exact) for exact in saved)]


def _is_saved(row: AddedRow, exact: AddedRow) -> bool:
    """Whether an added row is this row of the history.

    A row of an event file has all its numbers as float32. A row of a results file has some of its
    values exactly, and may have another step and epoch.
    """
    return _is_rounded(row, exact) or (_is_call(row) and exact.contains(row))


def _is_call(row: AddedRow) -> bool:
    """Whether it has a runtime, which differs for every evaluation."""
    return any(key.endswith("_runtime") for key in row.values)


def _is_rounded(row: AddedRow, exact: AddedRow) -> bool:
    """Whether a row has the numbers of an exact row, rounded to float32 or not."""
    numbers = {key: value for key, value in exact.values.items() if _is_number(value)}
    return (
        row.step == exact.step
        and row.values.keys() == numbers.keys()
        and all(_is_rounded_to(row.values[key], value) for key, value in numbers.items())
    )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float))


def _is_rounded_to(stored: object, exact: float) -> bool:
    if not _is_number(stored):
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(np.float32(exact), np.float32(stored), equal_nan=True))


def replacing(
    whole: Layout, kept: Layout, existing: ExistingRun, exporter: Exporter, rows: int
) -> Layout:
    """The `whole` layout, marked to replace the existing run that `kept` would only append to.

    Raises ExportError if the target cannot rewrite the run or a user changed it.
    """
    can_replace = isinstance(exporter, Replaces) and exporter.can_replace(existing, whole.rows)
    if not can_replace or _is_changed(kept, existing, exporter):
        raise ExportError(
            f"{rows} rows of the run in the target were exported from event files or results "
            "files, and the state now contains them, so they would be stored twice. Delete the "
            "run there and export it again"
        )
    message = "rows exported from event files or results files are replaced by those of the state"
    found = Finding("filled-rows-replaced", Severity.INFO, whole.run.source, message, rows)
    return replace(whole, replaces=True, findings=(*whole.findings, found))


def _is_changed(kept: Layout, existing: ExistingRun, exporter: Exporter) -> bool:
    """Whether the target holds points that bridges did not write."""
    wrong = compare(kept, exporter.read_back(existing), expected_points(kept, exporter))
    return any(finding.code == "unexpected-points" for finding in wrong)
