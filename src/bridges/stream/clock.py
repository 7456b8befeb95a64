"""The clock: a time for every row, from the best source that there is.

A log holds no instant, so the first one is `SYNTHETIC_ORIGIN` until something better is known;
never the export's own time. Sources, best first; `events` and `mtimes` are instants, the others
durations, whose origin may be an instant from beside the log:

    events     the wall times in the event files of the same run, found by equal values
    elapsed    training rows with `train_runtime` (`bridges.stream.pace`, as the others)
    log        the elapsed times in another tool's log
    mtimes     when the checkpoints were saved, on the disk that they were saved to
    duration   the summary's `train_runtime`
    synthetic  nothing: one second for each step

Times are integer microseconds. From row to row they rise by at least a millisecond as MLflow sees
it, which keeps whole ones. What a target holds already keeps its times, so that a run can grow
there whatever becomes known later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from bridges.errors import SourceError
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Clock, Evidence, Float64, Int64, MetricStream, Run
from bridges.stream.options import ClockName
from bridges.stream.pace import (
    LONGEST_RUN,
    REAL,
    Pace,
    best_pace,
    elapsed_rows,
    pace_of,
    summary_duration,
)

SECOND, MILLISECOND = 1_000_000, 1000  # in microseconds
SYNTHETIC_ORIGIN = 946_684_800 * SECOND  # 2000-01-01T00:00:00Z
CLOCKS: tuple[str, ...] = get_args(ClockName)
INSTANTS = ("events", "mtimes")
IN_LOG = ("elapsed", "duration", "synthetic")  # names of clocks that the log alone gives again
AGREED = 10 * SECOND  # by which the instants of one process may be apart
_WORDS = {
    "events": "event files",
    "elapsed": "train_runtime in the rows of the log",
    "log": "elapsed times in a log beside it",
    "mtimes": "times when its checkpoints were saved",
    "duration": "the duration in the summary row, spread over the steps",
    "synthetic": "one second for each step",
    "start": "the start that a name tells",
}


@dataclass(frozen=True)
class HeldTimes:
    """The times (int64, microseconds) that a target holds for some rows (int64, rising), and the
    name of the clock that they are from.
    """

    rows: Int64
    time: Int64
    clock: str


def apply_clock(
    stream: MetricStream,
    evidence: Sequence[Evidence] = (),
    source: str | None = None,
    held: HeldTimes | None = None,
    tick: int = 1,
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream with its times, the clock that gave them, and what there is to say of it.

    `source` forces one of `CLOCKS` (see `require_clock`); rows that a target holds keep its times.
    Times are whole multiples of `tick` microseconds.
    """
    evidence = [_rounded(one, tick) for one in evidence]
    found = {one.source: one for one in evidence}
    chosen = source or next(name for name in CLOCKS if _is_there(name, stream, found))
    if chosen == "synthetic":
        found = {}  # what is best, too, only where nothing but a start is known
        found |= {one.source: one for one in evidence if one.source == "start" and not source}
    log = found.get("log")
    name = best_pace(stream, log) if chosen in INSTANTS else chosen
    pace = pace_of(name, stream, log)
    seen = _Times.of(chosen, pace, found, tick)
    times = _strictly_rising(_held_first(seen.rows, held, tick))
    start = min(seen.start, int(times[0])) if len(times) else seen.start
    end = int(times[-1]) if len(times) else start
    clock = Clock(chosen, seen.origin, start, end)
    if held is not None:
        clock = Clock(*_named(held.clock), start, end)
        return replace(stream, time=times), clock, [_kept(clock, chosen)]
    return replace(stream, time=times), clock, _clock_findings(clock, pace, found, seen.refused)


def _named(name: str) -> tuple[str, str]:
    """Source and origin of a clock from its name."""
    source, _, origin = name.partition(" from ")
    return source, origin or (source if source in INSTANTS else "synthetic")


def _kept(clock: Clock, chosen: str) -> Finding:
    message = (
        f"the target keeps its times from {_WORDS.get(clock.source, clock.source)}; what is new "
        f"goes on from there by {_WORDS[chosen]}"
    )
    return Finding("clock-kept", Severity.INFO, "all rows", message)


def times_digest(time: Int64, rows: Int64, tick: int = 1) -> str:
    """A digest of the times of these rows, in ticks."""
    return hashlib.sha256(np.ascontiguousarray(time[rows] // tick, "<i8").tobytes()).hexdigest()[
        :16
    ]


def _rounded(evidence: Evidence, tick: int) -> Evidence:
    """The evidence with times that are multiples of a tick."""
    if tick == 1:
        return evidence
    start = None if evidence.start is None else evidence.start // tick * tick
    return replace(evidence, time=in_ticks(evidence.time / tick, tick), start=start)


def _is_there(name: str, stream: MetricStream, found: Mapping[str, Evidence]) -> bool:
    if name == "elapsed":
        return len(elapsed_rows(stream)[0]) >= 2
    if name == "duration":
        return summary_duration(stream) is not None
    return name == "synthetic" or (name in found and len(found[name].rows) > 0)


def require_clock(name: str, run: Run) -> None:
    """Raises SourceError where a run has nothing for that clock."""
    stream, found = run.stream, {one.source: one for one in run.evidence}
    if not _is_there(name, stream, found):
        there = ", ".join(other for other in CLOCKS if _is_there(other, stream, found))
        raise SourceError(
            run.source,
            place=f"--clock {name}",
            found=f"no {_WORDS[name]} that belong to this run",
            expected=f"one of the clocks that it has: {there}",
            remedy="Leave out --clock for the best of these, or name the run's whole directory.",
        )


@dataclass(frozen=True)
class _Times:
    """Times in microseconds (int64, one a row), the start, what fixes the first instant, and the
    instants that were refused because they do not agree.
    """

    rows: Int64
    start: int
    origin: str
    refused: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: str, pace: Pace, found: Mapping[str, Evidence], tick: int) -> _Times:
        if source in INSTANTS:
            times, start = _between(found[source], pace, tick)
            known = found[source].start
            return cls(times, start if known is None else known, source)
        refused: list[str] = []
        for name in INSTANTS:
            if name in found and len(found[name].rows):
                shifted = _shifted(found[name], pace, tick)
                if shifted is not None:
                    return cls(*shifted, name, tuple(refused))
                refused.append(name)
        origin = found["start"].start if "start" in found else None
        start = SYNTHETIC_ORIGIN if origin is None else origin
        times = start + in_ticks(pace.seconds * (SECOND // tick), tick)
        return cls(times, start, "synthetic" if origin is None else "start", tuple(refused))


def _between(known: Evidence, pace: Pace, tick: int) -> tuple[Int64, int]:
    """Times through the known instants, the other rows in between by the pace."""
    # the start is a row before all others; a millisecond for each row keeps all of them apart
    gaps = np.arange(len(pace.seconds) + 1) * (MILLISECOND // tick)
    course = np.concatenate([[0.0], pace.seconds * (SECOND // tick)]) + gaps
    at, time = course[known.rows + 1], known.time / tick
    rate = 1.0
    if pace.name not in REAL and len(at) > 1:
        rate = (time[-1] - time[0]) / (at[-1] - at[0])
    times = np.interp(course, at, time)
    times = np.where(course < at[0], time[0] - (at[0] - course) * rate, times)
    times = np.where(course > at[-1], time[-1] + (course - at[-1]) * rate, times)
    end = time[-1] + LONGEST_RUN * (SECOND // tick)  # a rate may lead anywhere
    whole = in_ticks(np.clip(times, 0, end), tick)
    return whole[1:], int(whole[0])


def _shifted(known: Evidence, pace: Pace, tick: int) -> tuple[Int64, int] | None:
    """The pace moved to known instants, each process by itself; None where they do not agree.

    The least shift counts: an instant is never before the row that it is of.
    """
    elapsed = pace.seconds * (SECOND // tick)
    shift = known.time / tick - elapsed[known.rows]
    sessions = pace.session[known.rows]
    shifts = np.full(int(pace.session.max(initial=0)) + 1, np.nan)
    for session in np.unique(sessions):
        of_it = shift[sessions == session]
        if of_it.max() - of_it.min() > AGREED / tick:
            return None
        shifts[session] = of_it.min()
    for session in range(1, len(shifts)):  # one without any goes on from the one before it
        if np.isnan(shifts[session]):
            shifts[session] = shifts[session - 1]
    first = int(np.flatnonzero(~np.isnan(shifts))[0])
    shifts[:first] = shifts[first]
    return in_ticks(elapsed + shifts[pace.session], tick), int(in_ticks(shifts[:1], tick)[0])


def in_ticks(times: Float64, tick: int) -> Int64:
    """Microseconds of times that are counted in ticks, each rounded to a whole one."""
    return np.asarray(np.rint(times).astype(np.int64) * tick)


def _held_first(times: Int64, held: HeldTimes | None, tick: int) -> Int64:
    """The times with those that a target holds; the rows after them go on from there."""
    if held is None or not len(held.rows):
        return times
    moved = times.copy()
    last = int(held.rows[-1])
    moved[last + 1 :] += held.time[-1] - moved[last]
    known = np.interp(np.arange(last + 1), held.rows, held.time / tick)
    moved[: last + 1] = in_ticks(known, tick)
    moved[held.rows] = held.time
    return moved


def _strictly_rising(times: Int64) -> Int64:
    """The times, each moved to the next whole millisecond that no row before it has."""
    index = np.arange(len(times), dtype=np.int64)
    own = times // MILLISECOND
    free = np.maximum.accumulate(own - index) + index
    return np.asarray(np.where(free == own, times, free * MILLISECOND), np.int64)


def _clock_findings(
    clock: Clock, pace: Pace, found: Mapping[str, Evidence], refused: Sequence[str]
) -> list[Finding]:
    findings = [
        Finding(
            "clock-disagrees",
            Severity.WARNING,
            found[name].where,
            f"not used as a clock: {_WORDS[name]} do not fit {_WORDS[clock.source]}",
        )
        for name in refused
    ]
    if clock.is_synthetic:
        what = {
            "elapsed": "durations are those of the log (train_runtime in its rows)",
            "log": "durations are those of a log beside it",
            "duration": "the duration is that of the summary row, spread over the steps",
            "synthetic": "the log holds no time at all: one second stands for each step",
        }[clock.source]
        message = f"times are synthetic and start on 2000-01-01: {what}"
        return [*findings, Finding("clock-synthetic", Severity.INFO, "all rows", message)]
    return [*findings, _real(clock, pace, found[clock.origin])]


def _real(clock: Clock, pace: Pace, origin: Evidence) -> Finding:
    """What the times are made of."""
    message = f"times are from {_WORDS[clock.source]}"
    if clock.source in INSTANTS:
        rows = len(pace.seconds)
        if len(origin.rows) < rows:
            message += f" for {len(origin.rows)} of {rows} rows, the others by {_WORDS[pace.name]}"
        if origin.spread:
            apart = f"{origin.spread / SECOND:.2g} s"
            message += f"; a row has the time of its first point, the others were within {apart}"
    else:
        message += f", beginning with {_WORDS[clock.origin]}"
    note = f"; {origin.note}" if origin.note else ""
    severity = Severity.WARNING if origin.note else Severity.INFO
    return Finding("clock-source", severity, origin.where, message + note)
