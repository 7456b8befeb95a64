"""Diagnoses a history: findings on steps and epochs that a chart would hide.

Each rule reports a cause that occurred in real histories. No rule changes a row.
"""

from __future__ import annotations

import numpy as np

from bridges.huggingface.resumes import resumes
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Float64, Int64, MetricStream, RowKind

MAX_TURN_ROWS = 2  # median number of rows that a process logs before another process does
OTHER_STEPS = "resume-other-steps-per-epoch"  # the code of two findings
ROUNDING_TOLERANCE = 0.0101  # epochs: total error of two epochs rounded to two decimals


def diagnose(stream: MetricStream) -> list[Finding]:
    """All findings on steps, epochs, learning rates and the summary of a stream."""
    if not len(stream):
        return [Finding("no-rows", Severity.WARNING, "log history", "the log has no rows")]
    findings = [*_backward_steps(stream), *resumes(stream)]
    rows, steps, epochs = _progress(stream)
    if len(rows) < 2:
        return findings
    rounded = bool((np.round(epochs, 2) == epochs).all())
    tolerance = ROUNDING_TOLERANCE if rounded else 1e-9
    gain = epochs[1:] - epochs[:-1]
    if rounded and (gain == 0).any():
        findings.append(_rounded(epochs))
    falls = np.flatnonzero(gain < 0) + 1
    if len(falls):
        findings.append(_falls(rows, steps, epochs, falls, tolerance))
    return findings + _slopes(rows, steps, epochs, falls, tolerance)


def _progress(stream: MetricStream) -> tuple[Int64, Int64, Float64]:
    """Row, step and epoch of each row with a higher step than all rows before it."""
    epoch = stream.epoch
    rows = np.flatnonzero((np.abs(epoch) < 2**53) & (stream.step > 0))
    furthest = np.maximum.accumulate(stream.step[rows])
    ahead = rows[np.diff(furthest, prepend=0) > 0]
    return ahead, stream.step[ahead], epoch[ahead]


def _backward_steps(stream: MetricStream) -> list[Finding]:
    back = np.flatnonzero(stream.step[1:] < stream.step[:-1]) + 1
    if not len(back):
        return []
    why = "two histories may be joined here"
    if _take_turns(stream.step):
        why = "several processes wrote this log in turns"
    message = f"the step is lower than in the previous row: {why}"
    return [Finding.at_rows("steps-go-back", Severity.WARNING, back, message)]


def _take_turns(steps: Int64) -> bool:
    """Whether rows below the highest step so far alternate with rows at it.

    In a history that resumed from an earlier step, all lower rows are consecutive.
    """
    behind = steps < np.maximum.accumulate(steps)
    turns = np.flatnonzero(np.diff(behind))
    return len(turns) > 2 and bool(np.median(np.diff(turns)) <= MAX_TURN_ROWS)


def _usual_slope(steps: Int64, epochs: Float64, tolerance: float) -> float:
    """The epochs per step, without falls and jumps."""
    gain, width = np.diff(epochs), np.diff(steps)
    rising = gain >= 0
    if not rising.any():
        return float("inf")
    usual = np.median(gain[rising] / width[rising])
    steady = rising & (gain <= 2 * usual * width + tolerance)
    return float(gain[steady].sum() / width[steady].sum())


def _is_iterable(steps: Int64, slope: float) -> bool:
    """Whether the slope fits an iterable dataset.

    Its epoch is the number of completed passes plus the steps of this pass over all steps of the
    training.
    """
    return slope * float(steps[-1]) <= 1.02


def _rounded(epochs: Float64) -> Finding:
    return Finding(
        "epoch-rounded",
        Severity.INFO,
        f"{len(epochs)} steps",
        "epochs are rounded to two decimals (transformers 4.2 to 4.39), so several steps share "
        "one; use steps as the x-axis",
        int((np.diff(epochs) == 0).sum()),
    )


def _falls(rows: Int64, steps: Int64, epochs: Float64, falls: Int64, tolerance: float) -> Finding:
    """The finding for falling epochs: a restart of an iterable dataset, or a changed resume."""
    first = falls[0]
    change = f"epoch {epochs[first - 1]:.4g} to {epochs[first]:.4g} at step {steps[first]}"
    slope = _usual_slope(steps, epochs, tolerance)
    if (epochs[falls] < 1).all() or _is_iterable(steps, slope):
        message = f"the epoch starts again ({change}): an iterable dataset or a restart"
        return Finding.at_rows("epoch-restarts", Severity.WARNING, rows[falls], message)
    message = f"the epoch falls ({change}): resumed with another number of steps per epoch"
    return Finding.at_rows(OTHER_STEPS, Severity.WARNING, rows[falls], message)


def _slopes(
    rows: Int64, steps: Int64, epochs: Float64, falls: Int64, tolerance: float
) -> list[Finding]:
    """Findings for changes in epochs per step between falls: jumps, new slopes, partial steps."""
    gain, width = epochs[1:] - epochs[:-1], steps[1:] - steps[:-1]
    surplus = np.zeros(len(gain))  # epochs gained beyond the usual gain of the segment
    slack = np.maximum(tolerance, 1e-3 * gain)
    for segment in np.split(np.arange(len(gain)), falls - 1):
        inside = segment[gain[segment] >= 0]
        if len(inside) >= 3:
            usual = inside[np.argsort(gain[inside] / width[inside])[len(inside) // 2]]
            scale = width[inside] / width[usual]
            surplus[inside] = gain[inside] - gain[usual] * scale
            slack[inside] += np.where(scale == 1, 0.0, tolerance * scale)  # of `usual` itself
    odd = np.flatnonzero(np.abs(surplus) > slack) + 1
    if not len(odd):
        return []
    slope = _usual_slope(steps, epochs, tolerance)
    begun = epochs[odd] % 1 <= slope * width[odd - 1] + tolerance  # a pass began in between
    if _is_iterable(steps, slope) and (surplus[odd - 1] > 0).all() and begun.all():
        return [_passes(rows[odd])]
    if (surplus > 0.5).any():
        return [_jumps(rows[1:][surplus > 0.5], epochs[1:][surplus > 0.5])]
    if _once_per_epoch(epochs, odd, tolerance):
        return [_partial_accumulation(rows[odd])]
    return [_not_linear(rows[odd])]


def _jumps(rows: Int64, epochs: Float64) -> Finding:
    """The finding for jumps: an iterable dataset's next pass if to an integer, else a resume."""
    if (epochs - np.floor(epochs) < 0.1).all():
        return _passes(rows)
    message = "the epoch jumps: resumed with another number of steps per epoch"
    return Finding.at_rows(OTHER_STEPS, Severity.WARNING, rows, message)


def _passes(rows: Int64) -> Finding:
    message = "the epoch jumps to the next integer, as iterable datasets count their passes"
    return Finding.at_rows("iterable-dataset", Severity.INFO, rows, message)


def _partial_accumulation(rows: Int64) -> Finding:
    message = (
        "the last step of an epoch advances it by another amount: its gradient accumulation is "
        "incomplete"
    )
    return Finding.at_rows("partial-accumulation", Severity.INFO, rows, message)


def _not_linear(rows: Int64) -> Finding:
    message = "the epochs per step change here: resumed with other data or batch size"
    return Finding.at_rows("epoch-not-linear", Severity.WARNING, rows, message)


def _once_per_epoch(epochs: Float64, odd: Int64, tolerance: float) -> bool:
    """Whether each odd interval touches or crosses an integer epoch."""
    before, after = epochs[odd - 1], epochs[odd]
    return bool((before <= np.floor(after + tolerance)).all())


def unfinished_tail(stream: MetricStream, global_step: int | None) -> list[Finding]:
    """A finding if the state's `global_step` is higher than its last logged row."""
    if global_step is None or not len(stream) or stream.step[-1] >= global_step:
        return []
    if (stream.kind == RowKind.SUMMARY).any():
        return []
    message = (
        f"the run was at step {global_step} but its last row is at step {stream.step[-1]}: "
        "the steps in between were not logged"
    )
    return [Finding.at_rows("tail-not-logged", Severity.INFO, [len(stream) - 1], message)]
