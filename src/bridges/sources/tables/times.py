"""The evidence of the times of a table's rows: a column, and the files' times of change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bridges.sources.tables.paths import is_url, within
from bridges.sources.tables.text import TableText
from bridges.sources.times.clocks import MTIMES
from bridges.sources.times.disk import changed_at
from bridges.stream.model import (
    NO_TIME,
    Evidence,
    EvidenceKind,
    Float64,
    Int64,
    Knows,
    MetricStream,
    Run,
)

TIMESTAMPS = EvidenceKind("recorded", Knows.INSTANTS, 0, "the times in the table")
ELAPSED = EvidenceKind("log", Knows.DURATIONS, 30, "elapsed times in the table", least=2)
SLACK_MICROSECONDS = 2_000_000  # file systems and loggers may round to seconds
MIN_ELAPSED = 10_000_000  # microseconds: a copy takes less


def with_times(stream: MetricStream, time: Int64 | None) -> MetricStream:
    """The stream with the times of its rows, if all of them have one."""
    if time is None or not len(time) or (time == NO_TIME).any():
        return stream
    return MetricStream(stream.step, stream.kind, stream.series, time)


def evidence_of(
    text: TableText, time: Int64 | None, elapsed: Float64 | None, settings: Sequence[str]
) -> tuple[Evidence, ...]:
    """The evidence of the times of a table's rows, which may be incomplete.

    `settings`: the files of settings beside it, which are written when the training starts.
    """
    found = []
    if time is not None and (rows := np.flatnonzero(time != NO_TIME)).size:
        found.append(Evidence(TIMESTAMPS, rows, time[rows], text.location))
    if elapsed is not None and (rows := np.flatnonzero(~np.isnan(elapsed))).size:
        found.append(Evidence(ELAPSED, rows, elapsed[rows], text.location))
        saved = _original_mtime(text.location, elapsed[rows], settings)
        if saved is not None:
            found.append(Evidence(MTIMES, rows[-1:], np.array([saved]), text.location))
    return tuple(found)


def _original_mtime(path: str, elapsed: Float64, settings: Sequence[str]) -> int | None:
    """The time of the last row by the file's mtime, if the file is the original; else None.

    It is confirmed by the first settings file, written as long before it as the training took.
    A copy sets both within moments, and a resumed training has other durations.
    """
    if is_url(path) or len(elapsed) < 2 or (np.diff(elapsed) < 0).any():
        return None
    written, begun = changed_at(path), [changed_at(name) for name in settings]
    starts = [time for time in begun if time is not None]
    if written is None or not starts or elapsed[-1] < MIN_ELAPSED:
        return None
    took = written - min(starts)
    longest = 2 * float(elapsed[-1]) + SLACK_MICROSECONDS
    return written if elapsed[-1] - SLACK_MICROSECONDS <= took <= longest else None


def without_mtime(run: Run) -> Run:
    """The run without the time of change of its table, which another run was written to later."""
    return replace(run, evidence=tuple(one for one in run.evidence if one.kind is not MTIMES))


def near(folder: str, names: Sequence[str]) -> list[str]:
    """The paths of files relative to a directory."""
    return [within(folder, name) for name in names]
