"""Rows that a target got from event files or results files and that a state holds since.

They were exported beside the history, and the training went on and saved them: as rows of the
history they would be there twice. So the whole run takes the place of what the target holds, with
exact values; rows that only the target holds stay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bridges.compare import compare, expected_points
from bridges.errors import ExportError
from bridges.exporters.base import Exporter, Held
from bridges.stream.added import AddedRow, rows_of
from bridges.stream.finding import Finding, Severity
from bridges.stream.layout import Layout


def saved_since(layout: Layout, held: Held) -> list[AddedRow]:
    """The added rows of a target that the history holds since."""
    if not held.added or layout.history <= held.history:
        return []
    history = layout.run.history
    steps = {row.step for row in held.added}
    later = [row for row in range(held.history, len(history)) if int(history.step[row]) in steps]
    saved = rows_of(history, later)
    return [row for row in held.added if any(_is_rounded(row, exact) for exact in saved)]


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


def replacing(whole: Layout, kept: Layout, held: Held, exporter: Exporter, rows: int) -> Layout:
    """The `whole` layout in place of what the target holds, which goes on as `kept` otherwise.

    Raises ExportError where the target cannot be rewritten or was changed by hand.
    """
    layout = replace(whole, run=replace(whole.run, replaces=True))
    can_replace = getattr(exporter, "can_replace", None)
    if can_replace is None or not can_replace(layout, held) or _is_changed(kept, held, exporter):
        raise ExportError(
            f"{rows} rows of the run in the target were exported from event files or results "
            "files, and the state holds them since, so they would be there twice. Delete the run "
            "there and export it again"
        )
    message = "rows exported from event files or results files are replaced by those of the state"
    found = Finding("filled-rows-replaced", Severity.INFO, layout.run.source, message, rows)
    return replace(layout, findings=(*layout.findings, found))


def _is_changed(kept: Layout, held: Held, exporter: Exporter) -> bool:
    """Whether the target holds points that were not written."""
    wrong = compare(kept, exporter.read_back(held), expected_points(kept, exporter))
    return any(finding.code == "unexpected-points" for finding in wrong)
