"""The times in a tuning tool's log: seconds since the start of its process, whole ones."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import numpy as np
from pydantic_core import from_json

from bridges.errors import SourceError
from bridges.sources.log_formats import LogFormat, recognise
from bridges.sources.text import load
from bridges.stream.model import Evidence, Float64, Int64, MetricStream

_TIMEDELTA = re.compile(
    r"(?:(?P<d>\d{1,9}) days?, )?(?P<h>\d{1,9}):(?P<m>\d\d):(?P<s>\d\d(?:\.\d{1,9})?)", re.ASCII
)
_LETTERS = re.compile(
    r"(?=\S)(?:(?P<d>\d{1,9})d)?(?: ?(?P<h>\d{1,9})h)?(?: ?(?P<m>\d{1,9})m)?(?: ?(?P<s>\d{1,9})s)?",
    re.ASCII,
)
_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def elapsed(location: str) -> tuple[Int64, Float64]:
    """Step and elapsed seconds of each line of a log that has both, in the order of the file.

    A line that stands there twice counts once. The seconds begin anew wherever a run was resumed,
    and steps may go back there; a line of training and one of evaluation may share a step. What
    cannot be read is passed over: the arrays are empty where nothing can. Raises nothing.
    """
    try:
        data = load(location, salvage=True).data
    except SourceError:
        data = b""
    log_format = recognise(data)
    lines = [line for line, _ in groupby(data.split(b"\n"))]
    pairs = [pair for line in lines if log_format and (pair := _pair(line, log_format))]
    steps, seconds = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(steps, np.int64), np.array(seconds, np.float64)


def log_evidence(location: str, stream: MetricStream) -> Evidence | None:
    """What a log tells of the times of a stream: the rows of a step have its last lines."""
    steps, seconds = elapsed(location)
    lines: dict[int, list[int]] = {}
    for line, step in enumerate(steps.tolist()):
        lines.setdefault(step, []).append(line)
    found: dict[int, int] = {}
    furthest = len(steps)
    for row in range(len(stream) - 1, -1, -1):  # from the end: what was resumed counts
        of_step = lines.get(int(stream.step[row]), [])
        while of_step and of_step[-1] > furthest:
            of_step.pop()
        if of_step:
            furthest = of_step[-1]
            found[row] = furthest
            if len(of_step) > 1:
                of_step.pop()
    if not found:
        return None
    rows = np.array(sorted(found), np.int64)
    time = np.rint(seconds[[found[row] for row in rows.tolist()]] * 1000).astype(np.int64)
    return Evidence("log", rows, time, location)


def parse_elapsed(value: Any) -> float | None:
    """Seconds of a duration, as `4 days, 7:18:24`, `1d 2h 3m 4s` or a number; None of others."""
    if type(value) in (int, float):
        return float(value) if 0 <= value < 2**53 else None
    if not isinstance(value, str):
        return None
    match = _TIMEDELTA.fullmatch(value) or _LETTERS.fullmatch(value)
    if match is None:
        return None
    return sum(float(count) * _SECONDS[unit] for unit, count in match.groupdict("0").items())


def _pair(line: bytes, log_format: LogFormat) -> tuple[int, float] | None:
    try:
        row = from_json(line)
    except ValueError:
        return None
    # without any metric, not even an epoch, a line counts batches of a prediction
    if type(row) is not dict or not log_format.metrics(row):
        return None
    (step, _), seconds = log_format.position(row), parse_elapsed(row.get("elapsed_time"))
    return None if step is None or seconds is None else (step, seconds)
