"""The clock: a time for every row, from the best evidence that there is.

A log holds no instant, so the first one is `SYNTHETIC_ORIGIN` until something better is known;
never the export's own time. Kinds of evidence declare what they know and how good it is: instants
are used as they are, durations begin at an instant of other evidence or at a known start. Without
any evidence one second stands for each step.

Times are integer microseconds. From row to row they rise by at least one whole millisecond, which
is the finest that some targets keep. What a target holds already keeps its times, so that a run can
grow there whatever becomes known later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bridges.errors import SourceError
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import (
    NO_TIME,
    Clock,
    Evidence,
    EvidenceKind,
    Float64,
    Int64,
    Knows,
    MetricStream,
    Run,
)
from bridges.stream.naming import KeyRules
from bridges.stream.pace import LONGEST_RUN, SYNTHETIC, Pace, pace_of

SECOND, MILLISECOND = 1_000_000, 1000  # in microseconds
SYNTHETIC_ORIGIN = 946_684_800 * SECOND  # 2000-01-01T00:00:00Z
RECORDED = EvidenceKind("recorded", Knows.INSTANTS, 0, "those that the source recorded")
AGREED = 10 * SECOND  # by which the instants of one process may be apart


@dataclass(frozen=True)
class HeldTimes:
    """The times (int64, microseconds) that a target holds for some rows (int64, rising), the kind
    of evidence that they are from, and the origin of their clock.
    """

    rows: Int64
    time: Int64
    kind: EvidenceKind
    origin: str


def apply_clock(
    stream: MetricStream,
    rules: KeyRules,
    evidence: Sequence[Evidence] = (),
    source: str | None = None,
    held: HeldTimes | None = None,
    tick: int = 1,
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream with its times, the clock that gave them, and the findings.

    The evidence is that from beside the log; `rules` give that of the rows. `source` forces the
    clock of that name (see `require_clock`); rows that a target holds keep its times. Times are
    whole multiples of `tick` microseconds.
    """
    known = _Known.of(stream, rules, evidence, tick)
    chosen = known.named(source) if source else known.best()
    kind = chosen.kind if chosen else SYNTHETIC
    if chosen is None and source in (None, SYNTHETIC.name):
        known = _Known([], None if source else known.start)
    pace = pace_of(known.durations() if _is_instant(kind) else chosen, stream, rules)
    seen = _Times.of(chosen, pace, known, tick)
    times = _strictly_rising(_held_first(seen.rows, held, tick))
    start = min(seen.start, int(times[0])) if len(times) else seen.start
    end = int(times[-1]) if len(times) else start
    stream = stream.at(times)
    if held is not None:
        clock = Clock(held.kind.name, held.origin, start, end)
        return stream, clock, [_kept(held, kind)]
    is_in_rows = kind.in_rows and seen.origin == SYNTHETIC.name
    clock = Clock(source or kind.name, seen.origin, start, end, is_in_rows)
    findings = _clock_findings(clock, kind, pace, known, seen)
    return stream, clock, findings


def clocked(
    run: Run,
    stream: MetricStream,
    source: str | None = None,
    held: HeldTimes | None = None,
    tick: int = 1,
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream of a run with its times, see `apply_clock`.

    Tags keep the times that their source recorded, unless another clock is forced or the target has
    other times already. Rows of a log get such times by the rules of all clocks.
    """
    recorded = _recorded_times(stream)
    if recorded is None:
        return apply_clock(stream, run.key_rules, run.evidence, source, held, tick)
    if run.key_style == "tags" and source is None and held is None:
        return _as_recorded(stream, recorded)
    return apply_clock(stream, run.key_rules, (*run.evidence, recorded), source, held, tick)


def _recorded_times(stream: MetricStream) -> Evidence | None:
    """The evidence of the times that the source recorded; None if not every row has one.

    A row has the time of its first point, unless the source gives it another one.
    """
    time = stream.first_times() if stream.time is None else stream.time
    if (time == NO_TIME).any() or not len(time):
        return None
    return Evidence(RECORDED, np.arange(len(stream)), time, "the source")


def _as_recorded(
    stream: MetricStream, recorded: Evidence
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream with exactly these times; those of its points stay."""
    own = [part.time for part in stream.series if part.time is not None]
    times = np.concatenate([recorded.time, *own])
    start, end = (int(times.min()), int(times.max())) if len(times) else (SYNTHETIC_ORIGIN,) * 2
    found = Finding("clock-source", Severity.INFO, "all rows", f"times are {RECORDED.words}")
    clock = Clock(RECORDED.name, RECORDED.name, start, end)
    return replace(stream, time=recorded.time), clock, [found]


def _is_instant(kind: EvidenceKind) -> bool:
    return kind.knows is Knows.INSTANTS


@dataclass(frozen=True)
class _Known:
    """The evidence of a run, the best first, and that of its start."""

    ranked: list[Evidence]
    start: Evidence | None = None

    @classmethod
    def of(
        cls, stream: MetricStream, rules: KeyRules, evidence: Sequence[Evidence], tick: int = 1
    ) -> _Known:
        """All evidence, from beside the log in whole ticks."""
        found = {one.source: one for one in rules.evidence(stream)}
        found |= {one.source: _rounded(one, tick) for one in evidence}
        starts = [one for one in found.values() if one.kind.knows is Knows.START]
        ranked = [one for one in found.values() if one.kind.knows is not Knows.START]
        ranked.sort(key=lambda one: one.kind.rank)
        return cls(ranked, starts[0] if starts else None)

    def best(self) -> Evidence | None:
        """The best evidence that is a clock."""
        return next((one for one in self.ranked if one.is_clock), None)

    def named(self, name: str) -> Evidence | None:
        """The evidence of that name."""
        return next((one for one in self.ranked if one.source == name), None)

    def durations(self) -> Evidence | None:
        """The best evidence of durations, of two rows at least or a total."""
        for one in self.ranked:
            if one.kind.knows is Knows.TOTAL or (
                one.kind.knows is Knows.DURATIONS and len(one.rows) >= 2
            ):
                return one
        return None

    def instants(self) -> list[Evidence]:
        """The evidence of instants, the best first."""
        return [one for one in self.ranked if _is_instant(one.kind) and len(one.rows)]


def _kept(held: HeldTimes, kind: EvidenceKind) -> Finding:
    message = (
        f"the target keeps its times from {held.kind.words}; what is new goes on from there by "
        f"{kind.words}"
    )
    return Finding("clock-kept", Severity.INFO, "all rows", message)


def times_digest(time: Int64, tick: int = 1) -> str:
    """A digest of times, in ticks."""
    return hashlib.sha256(np.ascontiguousarray(time // tick, "<i8").tobytes()).hexdigest()[:16]


def _rounded(evidence: Evidence, tick: int) -> Evidence:
    """The evidence with times that are multiples of a tick."""
    if tick == 1:
        return evidence
    start = None if evidence.start is None else evidence.start // tick * tick
    return replace(evidence, time=in_ticks(evidence.time / tick, tick), start=start)


def require_clock(name: str, run: Run) -> None:
    """Raises SourceError where a run has nothing for that clock."""
    known = _Known.of(run.stream, run.key_rules, run.evidence)
    found = known.named(name)
    if name == SYNTHETIC.name or (found is not None and found.is_clock):
        return
    there = [one.source for one in known.ranked if one.is_clock]
    raise SourceError(
        run.source,
        place=f"--clock {name}",
        found="no times of that kind that belong to this run",
        expected=f"one of the clocks that it has: {', '.join([*there, SYNTHETIC.name])}",
        remedy="Leave out --clock for the best of these, or name the run's whole directory.",
    )


@dataclass(frozen=True)
class _Times:
    """Times in microseconds (int64, one a row), the start, the name of what fixes the first
    instant, and the evidence of instants that was refused because these do not agree.
    """

    rows: Int64
    start: int
    origin: str
    refused: tuple[Evidence, ...] = ()

    @classmethod
    def of(cls, chosen: Evidence | None, pace: Pace, known: _Known, tick: int) -> _Times:
        if chosen is not None and _is_instant(chosen.kind):
            times, start = _between(chosen, pace, tick)
            return cls(times, start if chosen.start is None else chosen.start, chosen.source)
        refused: list[Evidence] = []
        for one in known.instants():
            shifted = _shifted(one, pace, tick)
            if shifted is not None:
                return cls(*shifted, one.source, tuple(refused))
            refused.append(one)
        origin = known.start.start if known.start else None
        start = SYNTHETIC_ORIGIN if origin is None else origin
        times = start + in_ticks(pace.seconds * (SECOND // tick), tick)
        name = SYNTHETIC.name if known.start is None else known.start.source
        return cls(times, start, name, tuple(refused))


def _between(known: Evidence, pace: Pace, tick: int) -> tuple[Int64, int]:
    """Times through the known instants, the other rows in between by the pace."""
    # the start is a row before all others; a millisecond for each row keeps all of them apart
    gaps = np.arange(len(pace.seconds) + 1) * (MILLISECOND // tick)
    course = np.concatenate([[0.0], pace.seconds * (SECOND // tick)]) + gaps
    at, time = course[known.rows + 1], known.time / tick
    rate = 1.0
    if not pace.is_real and len(at) > 1:
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
    clock: Clock, kind: EvidenceKind, pace: Pace, known: _Known, seen: _Times
) -> list[Finding]:
    findings = [
        Finding(
            "clock-disagrees",
            Severity.WARNING,
            one.where,
            f"not used as a clock: {one.kind.words} do not fit {kind.words}",
        )
        for one in seen.refused
    ]
    if clock.is_synthetic:
        why = f"durations are from {kind.words}"
        if kind is SYNTHETIC:
            why = "the log holds no time at all: one second stands for each step"
        message = f"times are synthetic and start on 2000-01-01: {why}"
        return [*findings, Finding("clock-synthetic", Severity.INFO, "all rows", message)]
    origin = known.named(clock.origin) or known.start
    assert origin is not None
    return [*findings, _real(kind, pace, origin)]


def _real(kind: EvidenceKind, pace: Pace, origin: Evidence) -> Finding:
    """What the times are made of."""
    message = f"times are from {kind.words}"
    if _is_instant(kind):
        rows = len(pace.seconds)
        if len(origin.rows) < rows:
            message += f" for {len(origin.rows)} of {rows} rows, the others by {pace.kind.words}"
        if origin.spread:
            apart = f"{origin.spread / SECOND:.2g} s"
            message += f"; a row has the time of its first point, the others were within {apart}"
    else:
        message += f", beginning with {origin.kind.words}"
    note = f"; {origin.note}" if origin.note else ""
    severity = Severity.WARNING if origin.note else Severity.INFO
    return Finding("clock-source", severity, origin.where, message + note)
