"""The trainings in one table: a falling step begins another one, or resumes the same.

A fall to the first step of the training or below begins a training of its own. A fall into the
middle is a resume, and supersedes the rows with the steps from there on. So does a step that is
repeated while the time since the start falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bridges.stream.model import Float64, Int64


@dataclass(frozen=True)
class Training:
    """The rows of a training, and its superseded rows (int64 each, increasing)."""

    rows: Int64
    superseded: Int64


def trainings_of(
    step: Int64, elapsed: Float64 | None = None, *, is_one: bool = False
) -> list[Training]:
    """The trainings in rows with these steps (int64, n); `is_one`: each fall is a resume.

    `elapsed`: the time since the start (n; NaN: none).
    """
    change = np.diff(step)
    is_fall = change < 0
    if elapsed is not None:
        is_fall |= (change == 0) & (np.diff(elapsed) < 0)
    falls = np.flatnonzero(is_fall) + 1
    if not len(falls):
        return [Training(np.arange(len(step)), np.empty(0, np.int64))]
    if is_one:
        return [_training(step, 0, len(step), falls.tolist())]
    return [*_split(step, falls.tolist())]


def _split(step: Int64, falls: list[int]) -> Iterator[Training]:
    start = 0
    resumes: list[int] = []
    for row in (*falls, len(step)):
        if row < len(step) and step[row] > step[start]:
            resumes.append(row)
            continue
        yield _training(step, start, row, resumes)
        start, resumes = row, []


def _training(step: Int64, start: int, stop: int, resumes: list[int]) -> Training:
    """The training of the rows in [start, stop), resumed at some of them."""
    is_kept = np.ones(stop - start, bool)
    for row in resumes:
        before = slice(0, row - start)
        is_kept[before] &= step[start:row] < step[row]
    return Training(start + np.flatnonzero(is_kept), start + np.flatnonzero(~is_kept))
