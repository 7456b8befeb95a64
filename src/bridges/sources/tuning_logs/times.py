"""The times in a tuning tool's log: whole seconds since the start of its process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources.text import load
from bridges.sources.times.clocks import LOG
from bridges.sources.tuning_logs.formats import LogFormat, recognise
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Evidence, Float64, Int64, MetricStream, RowKind
from bridges.stream.pace import MAX_RUN_SECONDS

MAX_PROCESSES = 8  # tracked per log
_TIMEDELTA = re.compile(
    r"(?:(?P<d>\d{1,9}) days?, )?(?P<h>\d{1,9}):(?P<m>\d\d):(?P<s>\d\d(?:\.\d{1,9})?)", re.ASCII
)
_LETTERS = re.compile(
    r"(?=\S)(?:(?P<d>\d{1,9})d)?(?: ?(?P<h>\d{1,9})h)?(?: ?(?P<m>\d{1,9})m)?(?: ?(?P<s>\d{1,9})s)?",
    re.ASCII,
)
_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def elapsed(location: str, max_unpacked: int | None = None) -> tuple[Int64, Float64]:
    """Step (int64) and elapsed seconds (float64) of each line of a log with both, in file order.

    A repeated line counts once. At a resume, the seconds restart and steps may go back. A training
    line and an evaluation line may share a step. Unreadable lines are skipped; an unreadable file
    gives empty arrays and no exception.
    """
    try:
        data = load(location, salvage=True, max_unpacked=max_unpacked).data
    except SourceError:
        data = b""
    log_format = recognise(data)
    lines = [line for line, _ in groupby(data.split(b"\n"))]
    pairs = [pair for line in lines if log_format and (pair := _pair(line, log_format))]
    steps, seconds = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps, np.int64), np.array(seconds, np.float64)


def log_evidence(
    location: str, stream: MetricStream, max_unpacked: int | None = None
) -> tuple[Evidence | None, list[Finding]]:
    """The times of a stream's rows from a log; the rows of a step get its last lines.

    None and a finding if lines of two processes alternate, because their clocks differ.
    """
    steps, seconds = elapsed(location, max_unpacked)
    lines = _lines_of_rows(stream, steps)
    if not lines:
        return None, []
    rows = np.array(sorted(lines), np.int64)
    chosen = seconds[[lines[row] for row in rows.tolist()]]
    if _alternate(stream, rows, chosen):
        message = (
            "lines of two processes alternate in the log, each with its own clock: all rows are "
            "kept, and the elapsed times are not used"
        )
        found = Finding("log-of-two-processes", Severity.WARNING, location, message, len(rows))
        return None, [found]
    time = np.rint(chosen * 1e6).astype(np.int64)
    return Evidence(LOG, rows, time, location), []


def _lines_of_rows(stream: MetricStream, steps: Int64) -> dict[int, int]:
    """The line of each row by step, if any; from the end, so that the last attempt counts."""
    lines: dict[int, list[int]] = {}
    for line, step in enumerate(steps.tolist()):
        lines.setdefault(step, []).append(line)
    found: dict[int, int] = {}
    furthest = len(steps)
    for row in range(len(stream) - 1, -1, -1):
        of_step = lines.get(int(stream.step[row]), [])
        while of_step and of_step[-1] > furthest:
            of_step.pop()
        if of_step:
            furthest = of_step[-1]
            found[row] = furthest
            if len(of_step) > 1:
                of_step.pop()
    return found


def _alternate(stream: MetricStream, rows: Int64, seconds: Float64) -> bool:
    """Whether two processes wrote these rows alternately.

    A row fits a process if neither step nor seconds decrease and, for a training row, if the
    process has not logged this step. The row belongs to the fitting process with the nearest step,
    the most recent first; if none fits, it starts a new process, as after a restart. Processes
    alternate if two of them continue, or if one continues with a clock near the previous row's: a
    restarted clock begins at zero.
    """
    if (np.diff(seconds) >= 0).all():
        return False
    processes: list[_Process] = []  # most recent first
    resumed: set[int] = set()
    before = 0.0
    for row, now in zip(rows.tolist(), seconds.tolist(), strict=True):
        step, trains = int(stream.step[row]), bool(stream.kind[row] == RowKind.TRAIN)
        fitting = (at for at, process in enumerate(processes) if process.fits(step, now, trains))
        at = min(fitting, key=lambda at: step - processes[at].step, default=None)
        process = _Process() if at is None else processes.pop(at)
        process.add(step, now, trains)
        processes = [process, *processes[: MAX_PROCESSES - 1]]
        if at:
            resumed.add(id(process))
            if len(resumed) > 1 or now > before / 2:
                return True
        before = now
    return False


@dataclass
class _Process:
    """A process that writes a log: its last step and seconds, and its last training step."""

    step: int = 0
    seconds: float = 0.0
    trained: int | None = None

    def fits(self, step: int, seconds: float, trains: bool) -> bool:
        """Whether a row may be its next row; it logs each training step once."""
        if step < self.step or seconds < self.seconds:
            return False
        return not trains or step != self.trained

    def add(self, step: int, seconds: float, trains: bool) -> None:
        """Add its next row."""
        self.step, self.seconds = step, seconds
        self.trained = step if trains else self.trained


def parse_elapsed(value: object) -> float | None:
    """Seconds of a duration: `4 days, 7:18:24`, `1d 2h 3m 4s` or a number; else None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if 0 <= value <= MAX_RUN_SECONDS else None
    if not isinstance(value, str):
        return None
    match = _TIMEDELTA.fullmatch(value) or _LETTERS.fullmatch(value)
    if match is None:
        return None
    seconds = sum(float(count) * _SECONDS[unit] for unit, count in match.groupdict("0").items())
    return seconds if seconds <= MAX_RUN_SECONDS else None


def _pair(line: bytes, log_format: LogFormat) -> tuple[int, float] | None:
    try:
        row = from_json(line)
    except ValueError:
        return None
    # a line without any metric or epoch counts the batches of a prediction
    if type(row) is not dict or not log_format.metrics(row):
        return None
    (step, _), seconds = log_format.position(row), parse_elapsed(row.get("elapsed_time"))
    return None if step is None or seconds is None else (step, seconds)
