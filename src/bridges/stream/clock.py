"""The clock: a time for every row, from the best available evidence.

Each kind of evidence declares its content (instants or durations) and its rank. Instants are used
unchanged. Durations start at an instant of other evidence, at a known start, or at
`SYNTHETIC_ORIGIN`; never at the time of the export. Without evidence, each step takes one second.

Times are integer microseconds. They increase by at least one whole millisecond per row, the finest
resolution of some targets. Rows that a target has stored keep their times, so a run can grow there
whatever evidence is found later.
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
from bridges.stream.pace import MAX_RUN_SECONDS, SYNTHETIC, Pace, pace_of

SECOND, MILLISECOND = 1_000_000, 1000  # in microseconds
SYNTHETIC_ORIGIN = 946_684_800 * SECOND  # 2000-01-01T00:00:00Z
RECORDED = EvidenceKind("recorded", Knows.INSTANTS, 0, "the times recorded in the source")
MAX_DISAGREEMENT = 10 * SECOND  # between the shifts of one process


@dataclass(frozen=True)
class StoredTimes:
    """Times (int64, microseconds) that a target has stored for some rows (int64, increasing).

    `kind`: the evidence that they came from; `origin`: see `Clock`.
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
    stored: StoredTimes | None = None,
    tick: int = 1,
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream with times, its clock, and findings.

    `evidence` was found beside the log; `rules` gives the evidence in the rows. `source` forces a
    clock by name (see `require_clock`). Rows with `stored` times keep these. Times are multiples of
    `tick` microseconds.
    """
    known = _RankedEvidence.of(stream, rules, evidence, tick)
    chosen = known.named(source) if source else known.best()
    kind = chosen.kind if chosen else SYNTHETIC
    if chosen is None and source in (None, SYNTHETIC.name):
        known = _RankedEvidence([], None if source else known.start)
    pace = pace_of(known.durations() if _is_instant(kind) else chosen, stream, rules)
    timed = _Times.of(chosen, pace, known, tick)
    times = _strictly_increasing(_with_stored(timed.rows, stored, tick))
    start = min(timed.start, int(times[0])) if len(times) else timed.start
    end = int(times[-1]) if len(times) else start
    stream = stream.at(times)
    if stored is not None:
        clock = Clock(stored.kind.name, stored.origin, start, end)
        return stream, clock, [_kept(stored, kind)]
    is_in_rows = kind.in_rows and timed.origin == SYNTHETIC.name
    clock = Clock(source or kind.name, timed.origin, start, end, is_in_rows)
    findings = _clock_findings(clock, kind, pace, known, timed)
    return stream, clock, findings


def clocked(
    run: Run,
    stream: MetricStream,
    source: str | None = None,
    stored: StoredTimes | None = None,
    tick: int = 1,
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream of a run with times; see `apply_clock`.

    A run of tags keeps the recorded times of its source exactly, unless a clock is forced or the
    target has stored other times. For other runs, recorded times are evidence. Without recorded
    times, rows in no order have a time for each step: further rows do not move it.
    """
    recorded = _recorded_times(run, stream)
    if recorded is None and run.key_style == "tags" and not run.append_only:
        return _by_step(run, stream, source, stored, tick)
    if recorded is None:
        return apply_clock(stream, run.key_rules, run.evidence, source, stored, tick)
    if run.key_style == "tags" and source is None and stored is None:
        return *_as_recorded(run, stream, recorded), []
    return apply_clock(stream, run.key_rules, (*run.evidence, recorded), source, stored, tick)


def _by_step(
    run: Run, stream: MetricStream, source: str | None, stored: StoredTimes | None, tick: int
) -> tuple[MetricStream, Clock, list[Finding]]:
    """The stream with one time for all rows of a step."""
    _, first, place = np.unique(stream.step, return_index=True, return_inverse=True)
    evidence = []
    for one in run.evidence:
        rows, chosen = np.unique(place[one.rows], return_index=True)
        evidence.append(replace(one, rows=rows, time=one.time[chosen]))
    if stored is not None:
        rows, chosen = np.unique(place[stored.rows], return_index=True)
        stored = replace(stored, rows=rows, time=stored.time[chosen])
    steps, clock, findings = apply_clock(
        stream.take(first), run.key_rules, evidence, source, stored, tick
    )
    assert steps.time is not None
    return stream.at(steps.time[place]), clock, findings


def _recorded_times(run: Run, stream: MetricStream) -> Evidence | None:
    """The times and the start recorded in the source; None unless every row has a time.

    Without a time of its own, a row has the time of its first point.
    """
    time = stream.first_times() if stream.time is None else stream.time
    if (time == NO_TIME).any() or (not len(time) and stream.time is None):
        return None
    return Evidence(RECORDED, np.arange(len(stream)), time, "the source", run.start)


def _as_recorded(run: Run, stream: MetricStream, recorded: Evidence) -> tuple[MetricStream, Clock]:
    """The stream with the recorded times of rows and points, unchanged.

    The run starts and ends when its tracker says so, else with its first and last point.
    """
    own = [part.time for part in stream.series if part.time is not None]
    times = np.concatenate([recorded.time, *own]) if own else recorded.time
    known = [time for time in (run.start, run.end) if time is not None] or [SYNTHETIC_ORIGIN]
    first, last = (int(times.min()), int(times.max())) if len(times) else (known[0], known[-1])
    start = first if run.start is None else run.start
    end = last if run.end is None else run.end
    return replace(stream, time=recorded.time), Clock(RECORDED.name, RECORDED.name, start, end)


def _is_instant(kind: EvidenceKind) -> bool:
    return kind.knows is Knows.INSTANTS


@dataclass(frozen=True)
class _RankedEvidence:
    """The evidence of a run, the best first, and the evidence of its start."""

    ranked: list[Evidence]
    start: Evidence | None = None

    @classmethod
    def of(
        cls, stream: MetricStream, rules: KeyRules, evidence: Sequence[Evidence], tick: int = 1
    ) -> _RankedEvidence:
        """The evidence in the rows, and other evidence rounded to ticks."""
        found = {one.source: one for one in rules.evidence(stream)}
        found |= {one.source: _rounded(one, tick) for one in evidence}
        starts = [one for one in found.values() if one.kind.knows is Knows.START]
        ranked = [one for one in found.values() if one.kind.knows is not Knows.START]
        ranked.sort(key=lambda one: one.kind.rank)
        return cls(ranked, starts[0] if starts else None)

    def best(self) -> Evidence | None:
        """The best evidence with enough rows to be a clock."""
        return next((one for one in self.ranked if one.is_clock), None)

    def named(self, name: str) -> Evidence | None:
        """The evidence with a name."""
        return next((one for one in self.ranked if one.source == name), None)

    def durations(self) -> Evidence | None:
        """The best evidence of durations: of at least two rows, or a total."""
        for one in self.ranked:
            if one.kind.knows is Knows.TOTAL or (
                one.kind.knows is Knows.DURATIONS and len(one.rows) >= 2
            ):
                return one
        return None

    def instants(self) -> list[Evidence]:
        """The evidence of instants, the best first."""
        return [one for one in self.ranked if _is_instant(one.kind) and len(one.rows)]


def _kept(stored: StoredTimes, kind: EvidenceKind) -> Finding:
    message = (
        f"the target keeps its times from {stored.kind.words}; new rows continue from there by "
        f"{kind.words}"
    )
    return Finding("clock-kept", Severity.INFO, "all rows", message)


def times_digest(time: Int64, tick: int = 1) -> str:
    """A digest of times in units of `tick`."""
    return hashlib.sha256(np.ascontiguousarray(time // tick, "<i8").data).hexdigest()[:16]


def _rounded(evidence: Evidence, tick: int) -> Evidence:
    """The evidence with times rounded to multiples of `tick`."""
    if tick == 1:
        return evidence
    start = None if evidence.start is None else evidence.start // tick * tick
    return replace(evidence, time=in_ticks(evidence.time / tick, tick), start=start)


def require_clock(name: str, run: Run) -> None:
    """Raise SourceError if a run has no evidence for the named clock."""
    known = _RankedEvidence.of(run.stream, run.key_rules, run.evidence)
    found = known.named(name)
    if name == SYNTHETIC.name or (found is not None and found.is_clock):
        return
    clocks = [one.source for one in known.ranked if one.is_clock]
    raise SourceError(
        run.source,
        place=f"--clock {name}",
        found="no such times for this run",
        expected=f"one of its clocks: {', '.join([*clocks, SYNTHETIC.name])}",
        remedy="Omit --clock for the best of these, or export the run's complete directory.",
    )


@dataclass(frozen=True)
class _Times:
    """The times of rows (int64, microseconds), and the start.

    `origin`: the name of the evidence that fixes the first instant; `refused`: evidence of instants
    that contradicts the durations.
    """

    rows: Int64
    start: int
    origin: str
    refused: tuple[Evidence, ...] = ()

    @classmethod
    def of(cls, chosen: Evidence | None, pace: Pace, known: _RankedEvidence, tick: int) -> _Times:
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
    """Times of all rows and the start: known instants, and other rows interpolated by the pace."""
    # the start is a row before the first; one millisecond per row keeps all times distinct
    gaps = np.arange(len(pace.seconds) + 1) * (MILLISECOND // tick)
    elapsed = np.concatenate([[0.0], pace.seconds * (SECOND // tick)]) + gaps
    at, time = elapsed[known.rows + 1], known.time / tick
    rate = 1.0
    if not pace.is_real and len(at) > 1:
        rate = (time[-1] - time[0]) / (at[-1] - at[0])
    times = np.interp(elapsed, at, time)
    times = np.where(elapsed < at[0], time[0] - (at[0] - elapsed) * rate, times)
    times = np.where(elapsed > at[-1], time[-1] + (elapsed - at[-1]) * rate, times)
    end = time[-1] + MAX_RUN_SECONDS * (SECOND // tick)  # an extrapolated rate may be extreme
    rounded = in_ticks(np.clip(times, 0, end), tick)
    return rounded[1:], int(rounded[0])


def _shifted(known: Evidence, pace: Pace, tick: int) -> tuple[Int64, int] | None:
    """Times and start: the pace of each process shifted to known instants; None if they disagree.

    The smallest shift of a process is used, because an instant is never before its row.
    """
    elapsed = pace.seconds * (SECOND // tick)
    shift = known.time / tick - elapsed[known.rows]
    sessions = pace.session[known.rows]
    shifts = np.full(int(pace.session.max(initial=0)) + 1, np.nan)
    for session in np.unique(sessions):
        of_it = shift[sessions == session]
        if of_it.max() - of_it.min() > MAX_DISAGREEMENT / tick:
            return None
        shifts[session] = of_it.min()
    for session in range(1, len(shifts)):  # a session without instants continues the previous one
        if np.isnan(shifts[session]):
            shifts[session] = shifts[session - 1]
    first = int(np.flatnonzero(~np.isnan(shifts))[0])
    shifts[:first] = shifts[first]
    return in_ticks(elapsed + shifts[pace.session], tick), int(in_ticks(shifts[:1], tick)[0])


def in_ticks(times: Float64, tick: int) -> Int64:
    """Times in ticks, rounded, as microseconds."""
    return np.asarray(np.rint(times).astype(np.int64) * tick)


def _with_stored(times: Int64, stored: StoredTimes | None, tick: int) -> Int64:
    """The times, replaced by stored times where known; later rows are shifted to continue them."""
    if stored is None or not len(stored.rows):
        return times
    moved = times.copy()
    last = int(stored.rows[-1])
    moved[last + 1 :] += stored.time[-1] - moved[last]
    known = np.interp(np.arange(last + 1), stored.rows, stored.time / tick)
    moved[: last + 1] = in_ticks(known, tick)
    moved[stored.rows] = stored.time
    return moved


def _strictly_increasing(times: Int64) -> Int64:
    """The times, each moved to the next millisecond after all earlier rows if necessary."""
    index = np.arange(len(times), dtype=np.int64)
    own = times // MILLISECOND
    free = np.maximum.accumulate(own - index) + index
    return np.asarray(np.where(free == own, times, free * MILLISECOND), np.int64)


def _clock_findings(
    clock: Clock, kind: EvidenceKind, pace: Pace, known: _RankedEvidence, timed: _Times
) -> list[Finding]:
    findings = [
        Finding(
            "clock-disagrees",
            Severity.WARNING,
            one.where,
            f"not used as a clock: {one.kind.words} do not fit {kind.words}",
        )
        for one in timed.refused
    ]
    if clock.is_synthetic:
        why = f"durations are from {kind.words}"
        if kind is SYNTHETIC:
            why = "the log contains no times, so each step counts as one second"
        message = f"times are synthetic and start on 2000-01-01: {why}"
        return [*findings, Finding("clock-synthetic", Severity.INFO, "all rows", message)]
    if kind is RECORDED:
        return findings  # as expected
    origin = known.named(clock.origin) or known.start
    assert origin is not None
    return [*findings, _source_finding(kind, pace, origin)]


def _source_finding(kind: EvidenceKind, pace: Pace, origin: Evidence) -> Finding:
    """The finding that describes the source of the times."""
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
