"""The steps of a table's rows, from the values of its step column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bridges.sources.tables.damage import Damage
from bridges.stream.model import Int64, Series

MAX_STEP = 2.0**63
EXPECTED = "a whole number, as the step"


def steps_of(
    parts: Sequence[Series], count: int, lines: Int64, damage: Damage, column: str | None
) -> tuple[Int64, NDArray[np.bool_], NDArray[np.bool_]]:
    """The step of each row, whether it has one, and whether it is readable (n each).

    `parts`: the values of the step column. A whole float is a step; other values are `damage`.
    """
    step, known, is_good = np.zeros(count, np.int64), np.zeros(count, bool), np.ones(count, bool)
    for part in parts:
        if part.values.dtype == np.int64:
            step[part.rows], known[part.rows] = part.values, True
            continue
        is_whole = np.zeros(len(part.rows), bool)
        if part.values.dtype == np.float64:
            with np.errstate(invalid="ignore"):
                is_whole = (np.rint(part.values) == part.values) & (np.abs(part.values) < MAX_STEP)
            step[part.rows[is_whole]] = part.values[is_whole].astype(np.int64)
            known[part.rows[is_whole]] = True
        for row, value in zip(part.rows[~is_whole], part.values[~is_whole].tolist(), strict=True):
            is_good[row] = False
            damage.refuse(int(lines[row]), repr(value), EXPECTED, column or "")
    return step, known, is_good
