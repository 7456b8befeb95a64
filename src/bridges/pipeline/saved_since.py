"""Rows that a target got from event files or results files and that a state holds since.

They were exported beside the history, and the training went on and saved them: as rows of the
history they would be there twice. So the whole run takes the place of what the target holds, with
exact values; rows that only the target holds stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bridges.errors import ExportError
from bridges.exporters.base import ExistingRun, Exporter, Replaces
from bridges.exporters.state import State
from bridges.pipeline.compare import compare, expected_points, holds_values
from bridges.pipeline.layouts import Placer
from bridges.stream.added import AddedRow, joined, rows_of
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout
from bridges.stream.model import RowKind, Run


def rows_lacking(run: Run, state: State, existing: ExistingRun, placer: Placer) -> list[AddedRow]:
    """The added rows of a shorter history that a target with a longer one lacks.

    The steps and epochs of such rows depend on where the history ends, so values alone count.
    """
    mine = rows_of(run.stream, run.added)
    unknown = [row for row in mine if not any(there.holds(row) for there in state.added)]
    if not unknown:
        return []
    recorded, exporter = placer.exporter.read_back(existing), placer.exporter
    nothing = run.stream.take(np.empty(0, np.int64))
    lacking = []
    for row in unknown:
        values = {key: value for key, value in row.values.items() if key != "epoch"}
        stream = joined(nothing, [replace(row, values=values)])
        alone = replace(run, stream=stream, added=(), evidence=(), logged=(), logs=())
        layout = placer.place(alone, placer.identity(alone), rules=state.rules)
        if not holds_values(layout, recorded, exporter):
            lacking.append(row)
    return lacking


def saved_since(run: Run, state: State) -> list[AddedRow]:
    """The added rows of a target that the history holds since."""
    history = run.history
    if not state.added or len(history) <= state.history:
        return []
    is_alike = np.isin(history.step, [row.step for row in state.added])
    later = np.flatnonzero(is_alike | (history.kind != RowKind.TRAIN))
    saved = rows_of(history, later[later >= state.history].tolist())
    return [row for row in state.added if any(_is_saved(row, exact) for exact in saved)]


def _is_saved(row: AddedRow, exact: AddedRow) -> bool:
    """Whether a row of the history is the same: an event file holds all its numbers, as float32; a
    results file holds some, neither rounded nor with the step, and the epoch may be a later one.
    """
    return _is_rounded(row, exact) or (_is_call(row) and exact.holds(row))


def _is_call(row: AddedRow) -> bool:
    """Whether it has the runtime of a call, which no other call has."""
    return any(key.endswith("_runtime") for key in row.values)


def _is_rounded(row: AddedRow, exact: AddedRow) -> bool:
    """Whether a row has the numbers of an exact one, maybe as float32, which event files hold."""
    numbers = {key: value for key, value in exact.values.items() if _is_number(value)}
    return (
        row.step == exact.step
        and row.values.keys() == numbers.keys()
        and all(_same(row.values[key], value) for key, value in numbers.items())
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _same(stored: Any, exact: Any) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(np.float32(exact), np.float32(stored), equal_nan=True))


def replacing(
    whole: Layout, kept: Layout, existing: ExistingRun, exporter: Exporter, rows: int
) -> Layout:
    """The `whole` layout in place of the existing run, which goes on as `kept` otherwise.

    Raises ExportError where the target cannot be rewritten or was changed by hand.
    """
    can_replace = isinstance(exporter, Replaces) and exporter.can_replace(existing, whole.rows)
    if not can_replace or _is_changed(kept, existing, exporter):
        raise ExportError(
            f"{rows} rows of the run in the target were exported from event files or results "
            "files, and the state holds them since, so they would be there twice. Delete the run "
            "there and export it again"
        )
    message = "rows exported from event files or results files are replaced by those of the state"
    found = Finding("filled-rows-replaced", Severity.INFO, whole.run.source, message, rows)
    return replace(whole, replaces=True, findings=(*whole.findings, found))


def _is_changed(kept: Layout, existing: ExistingRun, exporter: Exporter) -> bool:
    """Whether the target holds points that were not written."""
    wrong = compare(kept, exporter.read_back(existing), expected_points(kept, exporter))
    return any(finding.code == "unexpected-points" for finding in wrong)
