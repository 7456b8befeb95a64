"""Resumes that hide inside one history: what a second start leaves in its learning rates and sums.

Each rule holds for all schedules of transformers at any logging interval, and none changes a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Float64, Int64, MetricStream, RowKind, Values

Mask = NDArray[np.bool_]
STEEPER = 3.0  # than its neighbours: the steepest bend of a schedule (1-sqrt) is 2.4
RISE, FALL = 0.02, 0.05  # of the highest learning rate: a smaller change is no jump
BOTTOM, TOP = 0.15, 0.8  # between these shares of it a schedule with restarts swings


def resumes(stream: MetricStream) -> list[Finding]:
    """All findings on learning rates and on the loss of the summary."""
    with np.errstate(all="ignore"):  # numbers near the largest, which mean nothing here
        return [*_rate_jumps(stream), *_summary(stream)]


def _rate_jumps(stream: MetricStream) -> list[Finding]:
    """Where the learning rate is not what the schedule before it would have made of it."""
    rows, rates = stream.column("learning_rate")
    ahead = np.diff(np.maximum.accumulate(stream.step[rows]), prepend=-1) > 0
    ahead &= np.isfinite(rates) & (rates >= 0)
    rows, rates = rows[ahead], rates[ahead]
    if len(rows) < 4:
        return []
    steps, highest = stream.step[rows], rates.max()
    change = rates[1:] - rates[:-1]
    if not ((change > RISE * highest) | (-change > FALL * highest)).any():
        return []  # the usual case, and what follows takes longer
    jumps = np.flatnonzero(_rises(steps, rates) | _drops(steps, rates)) + 1
    if not len(jumps):
        return []
    first = jumps[0]
    shown = f"{rates[first - 1]:.4g} to {rates[first]:.4g} at step {steps[first]}"
    swings = (rates[jumps - 1] <= BOTTOM * highest) & (rates[jumps] >= TOP * highest)
    if swings.all():
        message = f"the learning rate starts again ({shown}): a schedule with restarts or a resume"
        return [Finding.at_rows("learning-rate-restarts", Severity.INFO, rows[jumps], message)]
    message = (
        f"the learning rate jumps ({shown}): resumed with another schedule or length, "
        "or a schedule with restarts"
    )
    return [Finding.at_rows("learning-rate-jumps", Severity.WARNING, rows[jumps], message)]


def _rises(steps: Int64, rates: Float64) -> Mask:
    """Intervals in which the rate rises abruptly, and not from a beginning at zero."""
    slope = np.diff(rates) / np.diff(steps)
    rises: Mask = _steep(slope, 1) & (np.diff(rates) > RISE * rates.max())
    warm = np.logical_and.accumulate(slope > 0)  # a warm-up may take an interval or two only
    still = np.maximum.accumulate(rates)[:-1] == 0  # as where the first steps overflowed
    return np.asarray(rises & ~warm & ~still)


def _drops(steps: Int64, rates: Float64) -> Mask:
    """Intervals in which the rate drops abruptly and does not stay there.

    A drop to a rate that stays is one of a plateau, of stairs, or the end of a schedule; the first
    one after a rise is that of an inverse square root.
    """
    slope = np.diff(rates) / np.diff(steps)
    moves, after_rise = np.append(slope[1:] != 0, False), np.append(True, slope[:-1] > 0)
    drops: Mask = _steep(slope, -1) & (-np.diff(rates) > FALL * rates.max()) & moves & ~after_rise
    return drops


def _steep(slope: Float64, sign: int) -> Mask:
    """Which slopes are far steeper than both neighbours in that direction; the first never is."""
    inner = np.maximum(slope * sign, 0)
    before, after = np.append(np.inf, inner[:-1]), np.append(inner[1:], 0)
    steep: Mask = inner > STEEPER * np.maximum(before, after)
    return steep


def _summary(stream: MetricStream) -> list[Finding]:
    """A summary whose `train_loss` is that of a resumed part only.

    The Trainer sums the losses since it started last. Until 4.x it divides by all steps, since then
    by those that it summed; without a resume both give the mean of the loss rows.
    """
    row, mean = _last(stream, "train_loss")
    if row < 0:
        return []
    rows, losses = stream.column("loss")
    rows, losses = rows[rows < row], losses[rows < row]
    width = np.diff(stream.step[rows], prepend=0)
    rows, losses, width = rows[width != 0], losses[width != 0], width[width != 0]
    if len(rows) < 2 or (width < 0).any() or not np.isfinite([mean, *losses]).all():
        return []
    start = _summed_from(losses, width, mean, int(stream.step[row]))
    if start is None:
        return []
    message = (
        f"the train_loss of the summary, {mean:.4g}, is not the mean of the loss rows, "
        f"{np.average(losses, weights=width):.4g}: "
        f"it covers a resumed part only, from about step {start} on"
    )
    return [Finding.at_rows("summary-covers-a-part", Severity.INFO, [row], message)]


def _last(stream: MetricStream, key: str) -> tuple[int, float]:
    """Row and value of a key in the last summary row; (-1, NaN) where there is none."""
    rows, values = stream.column(key)
    found = np.flatnonzero(stream.kind[rows] == RowKind.SUMMARY)
    return (int(rows[found[-1]]), float(values[found[-1]])) if len(found) else (-1, float("nan"))


def _summed_from(losses: Float64, width: Int64, mean: float, last: int) -> int | None:
    """The step after which the losses give that mean; None where all do, or no part does.

    `width` are the steps that each loss is the mean of; what came after the last of them, before
    the `last` step, was summed and never logged: it is taken to be like the others.
    """
    rounded = bool((np.round(losses, 4) == losses).all())
    slack = np.where(rounded, 6e-5, 2e-6 * np.abs(losses)) * width
    tail = max(last - int(width.sum()), 0)
    unknown = tail * float(np.ptp(losses) + np.abs(losses).mean() / 2)
    sums = _from_here(losses * width) + tail * losses[-1]
    slacks = _from_here(slack) + unknown
    steps = _from_here(width) + tail
    by_all = np.abs(sums - mean * steps[0]) <= slacks  # up to 4.x
    by_part = np.abs(sums - mean * steps) <= slacks
    fits = np.flatnonzero(by_all | by_part)
    return None if not len(fits) or fits[0] == 0 else int(steps[0] - steps[fits[-1]])


def _from_here(values: Values) -> Float64:
    """The sums of each value and all after it."""
    return np.cumsum(values[::-1], dtype=np.float64)[::-1]
