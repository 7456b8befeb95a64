"""When checkpoints were saved: the times of their files, where these lie on the original disk.

A state is written 12 to 145 ms after its last row. A copy by git, the hub or `cp` has the times of
the copying instead, which is told from the order of the files and from the durations in the log.
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

BEFORE = ("training_args.bin", "optimizer.pt")  # written before the state, and copied around it
MTIME_SLACK_SECONDS = 1.0  # seconds that a time may be off: some file systems keep whole ones only


def disk_evidence(
    stream: MetricStream, saves: Sequence[tuple[str, int]]
) -> tuple[Evidence | None, list[Finding]]:
    """What the files of saves (location and number of rows of each) tell, if they are originals.

    A finding says why they are not taken for such.
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
    """Microseconds since 1970 at which each number of rows was saved first."""
    times: dict[int, int] = {}
    for location, rows in saves:
        saved = None if "://" in location else changed_at(location)
        if rows and saved is not None:
            times[rows] = min(times.get(rows, saved), saved)
    return times


def changed_at(path: str) -> int | None:
    """The mtime of a local file in microseconds since 1970; None if it has no possible one."""
    with suppress(OSError, ValueError):
        microseconds = os.stat(path).st_mtime_ns // 1000
        return microseconds if 0 < microseconds < MAX_TIME * 1_000_000 else None
    return None


def _copied(
    stream: MetricStream, rows: Int64, seconds: Float64, locations: Sequence[str]
) -> str | None:
    """Why these cannot be times of saving; None where something speaks for them and nothing
    against.
    """
    gaps = np.diff(seconds)
    if (gaps <= 0).any():
        return "they do not rise with the steps"
    signs = [_in_order(location) for location in locations]
    if False in signs:
        return "files of one checkpoint were not written in the order of saving"
    own = np.cumsum(eval_seconds(stream))[rows]
    span, evaluated = seconds[-1] - seconds[0], own[-1] - own[0]
    if (np.diff(own) > gaps + MTIME_SLACK_SECONDS).any() or evaluated > span + MTIME_SLACK_SECONDS:
        return "evaluations took longer than what lies between them"
    expected = _expected(stream, rows)
    if expected > 2 * span + MTIME_SLACK_SECONDS:
        return "the training took longer than what lies between them"
    if (
        True not in signs and max(expected, evaluated) <= 2 * MTIME_SLACK_SECONDS
    ):  # too short to tell
        return "nothing tells whether these are the original files"
    return None


def _in_order(location: str) -> bool | None:
    """Whether a state is no older than what is saved before it; None where nothing tells."""
    folder, _, name = location.rpartition(os.sep)
    if not CHECKPOINT.match(os.path.basename(folder)) or not name:
        return None
    saved = changed_at(location)
    earlier = [time for other in BEFORE if (time := changed_at(os.path.join(folder, other)))]
    if saved is None or not earlier:
        return None
    return max(earlier) <= saved


def _expected(stream: MetricStream, rows: Int64) -> float:
    """Seconds from the first to the last of these rows, by the summary's duration; 0 if none."""
    found = summary_duration(stream)
    if found is None:
        return 0.0
    steps = stream.step[rows]
    highest = max(int(stream.step.max()), 1)
    return found[1] * float(steps.max() - steps.min()) / highest
