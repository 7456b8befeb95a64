"""Save times of checkpoints: the mtimes of their files, if these are the original files.

A state is written 12 to 145 ms after its last row. Copies by git, the hub or `cp` have the time of
the copy; they are detected by the order of the files and by the durations in the log.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from bridges.huggingface.durations import eval_seconds, summary_duration
from bridges.sources.times.clocks import MTIMES
from bridges.sources.trainer.checkpoint_paths import CHECKPOINT
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, Float64, Int64, MetricStream
from bridges.stream.pace import MAX_TIME

BEFORE = ("training_args.bin", "optimizer.pt")  # written before the state; copied in any order
MTIME_SLACK_SECONDS = 1.0  # some file systems store mtimes in seconds


def disk_evidence(
    stream: MetricStream, saves: Sequence[tuple[str, int]]
) -> tuple[Evidence | None, list[Finding]]:
    """The mtimes of saves (location and number of rows of each) as evidence, if original.

    Otherwise a finding with the reason.
    """
    times = _times(saves) if len(saves) > 1 else {}
    if len(times) < 2:
        return None, []
    rows = np.array([count - 1 for count in sorted(times)], np.int64)
    time = np.array([times[count] for count in sorted(times)], np.int64)
    why = _copied(stream, rows, time / 1e6, [location for location, _ in saves])
    where = saves[0][0]
    if why:
        message = f"the times of the saved files are not used as a clock: {why}"
        return None, [Finding("clock-copied", Severity.INFO, where, message)]
    return Evidence(MTIMES, rows, time, where), []


def _times(saves: Sequence[tuple[str, int]]) -> dict[int, int]:
    """The earliest save time in microseconds since 1970 UTC, by number of rows."""
    times: dict[int, int] = {}
    for location, rows in saves:
        saved = None if "://" in location else changed_at(location)
        if rows and saved is not None:
            times[rows] = min(times.get(rows, saved), saved)
    return times


def changed_at(path: str) -> int | None:
    """The mtime of a local file in microseconds since 1970 UTC; None if missing or out of range."""
    with suppress(OSError, ValueError):
        microseconds = os.stat(path).st_mtime_ns // 1000
        return microseconds if 0 < microseconds < MAX_TIME * 1_000_000 else None
    return None


def _copied(
    stream: MetricStream, rows: Int64, seconds: Float64, locations: Sequence[str]
) -> str | None:
    """The reason why these mtimes are not save times; None if they are plausible."""
    gaps = np.diff(seconds)
    if (gaps <= 0).any():
        return "they do not increase with the steps"
    signs = [_in_order(location) for location in locations]
    if False in signs:
        return "files of one checkpoint were not written in the order of saving"
    own = np.cumsum(eval_seconds(stream))[rows]
    span, evaluated = seconds[-1] - seconds[0], own[-1] - own[0]
    if (np.diff(own) > gaps + MTIME_SLACK_SECONDS).any() or evaluated > span + MTIME_SLACK_SECONDS:
        return "evaluations took longer than the time between them"
    expected = _expected_seconds(stream, rows)
    if expected > 2 * span + MTIME_SLACK_SECONDS:
        return "the training took longer than the time between them"
    if (
        True not in signs and max(expected, evaluated) <= 2 * MTIME_SLACK_SECONDS
    ):  # too short to confirm them
        return "nothing shows whether these are the original files"
    return None


def _in_order(location: str) -> bool | None:
    """Whether a state is at least as new as the files saved before it; None if unknown."""
    folder, _, name = location.rpartition(os.sep)
    if not CHECKPOINT.match(os.path.basename(folder)) or not name:
        return None
    saved = changed_at(location)
    earlier = [time for other in BEFORE if (time := changed_at(os.path.join(folder, other)))]
    if saved is None or not earlier:
        return None
    return max(earlier) <= saved


def _expected_seconds(stream: MetricStream, rows: Int64) -> float:
    """Seconds from the first to the last row by the summary's duration; 0 if unknown."""
    found = summary_duration(stream)
    if found is None:
        return 0.0
    steps = stream.step[rows]
    highest = max(int(stream.step.max()), 1)
    return found[1] * float(steps.max() - steps.min()) / highest
