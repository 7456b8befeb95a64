"""Detects resumes within a history, by its learning rates and by the loss in its summary.

Each rule holds for all schedules of transformers at any logging interval. No rule changes a row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Float64, Int64, MetricStream, RowKind, Values

Mask = NDArray[np.bool_]
MIN_STEEPNESS = 3.0  # slope over its neighbours'; the steepest schedule (1-sqrt) reaches 2.4
MIN_RISE, MIN_FALL = 0.02, 0.05  # of a jump, as a share of the highest learning rate
RESTART_BOTTOM, RESTART_TOP = 0.15, 0.8  # shares of the highest rate around a schedule's restart


def resumes(stream: MetricStream) -> list[Finding]:
    """All findings on learning rates and on the loss of the summary."""
    with np.errstate(all="ignore"):  # numbers near the float64 limit, which are meaningless here
        return [*_rate_jumps(stream), *_summary(stream)]


def _rate_jumps(stream: MetricStream) -> list[Finding]:
    """A finding for learning rates that do not continue the schedule before them."""
    rows, rates = stream.column("learning_rate")
    ahead = np.diff(np.maximum.accumulate(stream.step[rows]), prepend=-1) > 0
    ahead &= np.isfinite(rates) & (rates >= 0)
    rows, rates = rows[ahead], rates[ahead]
    if len(rows) < 4:
        return []
    steps, highest = stream.step[rows], rates.max()
    change = rates[1:] - rates[:-1]
    if not ((change > MIN_RISE * highest) | (-change > MIN_FALL * highest)).any():
        return []  # the usual case; the following steps are slower
    jumps = np.flatnonzero(_rises(steps, rates) | _drops(steps, rates)) + 1
    if not len(jumps):
        return []
    first = jumps[0]
    shown = f"{rates[first - 1]:.4g} to {rates[first]:.4g} at step {steps[first]}"
    swings = (rates[jumps - 1] <= RESTART_BOTTOM * highest) & (
        rates[jumps] >= RESTART_TOP * highest
    )
    if swings.all():
        message = f"the learning rate starts again ({shown}): a schedule with restarts or a resume"
        return [Finding.at_rows("learning-rate-restarts", Severity.INFO, rows[jumps], message)]
    message = (
        f"the learning rate jumps ({shown}): resumed with another schedule or length, "
        "or a schedule with restarts"
    )
    return [Finding.at_rows("learning-rate-jumps", Severity.WARNING, rows[jumps], message)]


def _rises(steps: Int64, rates: Float64) -> Mask:
    """Mask of the intervals in which the rate rises abruptly, except in a warm-up."""
    slope = np.diff(rates) / np.diff(steps)
    rises: Mask = _steep(slope, 1) & (np.diff(rates) > MIN_RISE * rates.max())
    warm = np.logical_and.accumulate(slope > 0)  # a warm-up may take only one or two intervals
    still = np.maximum.accumulate(rates)[:-1] == 0  # for example if the first steps overflowed
    return np.asarray(rises & ~warm & ~still)


def _drops(steps: Int64, rates: Float64) -> Mask:
    """Mask of the intervals in which the rate drops abruptly and then changes again.

    A drop to a constant rate is a plateau, a stair, or the end of a schedule. The first drop after
    a rise is part of an inverse square root schedule.
    """
    slope = np.diff(rates) / np.diff(steps)
    moves, after_rise = np.append(slope[1:] != 0, False), np.append(True, slope[:-1] > 0)
    drops: Mask = (
        _steep(slope, -1) & (-np.diff(rates) > MIN_FALL * rates.max()) & moves & ~after_rise
    )
    return drops


def _steep(slope: Float64, sign: int) -> Mask:
    """Mask of slopes much steeper than both neighbours in the direction `sign`; never the first."""
    inner = np.maximum(slope * sign, 0)
    before, after = np.append(np.inf, inner[:-1]), np.append(inner[1:], 0)
    steep: Mask = inner > MIN_STEEPNESS * np.maximum(before, after)
    return steep


def _summary(stream: MetricStream) -> list[Finding]:
    """A finding for a summary whose `train_loss` covers only the part after a resume.

    The Trainer sums the losses since its last start. It divides by all steps (up to 4.x) or by the
    summed steps (since then); without a resume, both give the mean of the loss rows.
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
    """Row and value of a key in the last summary row; (-1, NaN) if absent."""
    rows, values = stream.column(key)
    found = np.flatnonzero(stream.kind[rows] == RowKind.SUMMARY)
    return (int(rows[found[-1]]), float(values[found[-1]])) if len(found) else (-1, float("nan"))


def _summed_from(losses: Float64, width: Int64, mean: float, last: int) -> int | None:
    """The step after which the losses have the given mean; None if all losses have it, or no part.

    `width`: the number of steps that each loss averages. Losses after the last row, up to the step
    `last`, were summed but not logged; they are assumed to be similar.
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
