"""Following: runs that still go on, appended to their targets as their states are saved.

Each poll lists the locations (`sources.watching`). One where nothing changed is left alone; of one
that changed all states are read, and the runs with new rows exported as ever. So a poll costs a
`stat` of each file (5,000 of them: 40 ms), a change the reading of its location (a run with 100
checkpoints of up to 5,500 rows: 0.6 s). Appends are not read back, which would double their cost;
once it is over, one ordinary export reads everything again, verifies it, and tells what is wrong.

It is over when every run has its summary row, which the Trainer writes when it has finished; not
at the last step, whose checkpoint comes before that row. A run without one is not waited for where
another of its output directory has one that is newer, as after a crash and a resume. All else
waits until nothing has changed for the idle timeout.

What cannot be read is no error yet: a state that is being written, or is rotated away meanwhile, a
directory that is not there. It is read again when it changes, and after 1, 2, 4 … polls anyway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bridges.batch import for_each_run, one_name
from bridges.errors import ConfigError
from bridges.export_options import ExportOptions, Pace
from bridges.exporters.base import Exporter
from bridges.pipeline import OnPhase, export_run
from bridges.report import BatchReport, RunReport, Tally
from bridges.sources.output_directory import output_of
from bridges.sources.remote import MISSING
from bridges.sources.watching import Stamp, Stamps, stamps
from bridges.stream.identity import prefix_digest
from bridges.stream.model import RowKind, Run

SETTLED = 60.0  # seconds after which an unreadable file beside finished runs is not being written
RAREST = 32  # polls between two attempts at what fails and does not change

Wait = Callable[[float], bool]
Look = Callable[..., Stamps | None]
OnReport = Callable[[RunReport], None]


@dataclass(frozen=True)
class Seen:
    """A run as it was last read: `folder` is its output directory."""

    name: str
    rows: int
    has_summary: bool
    saves: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Waiting:
    """What is waited for: the runs that were read, how many of them are over, what cannot be read
    or written yet, and the seconds since something last changed.
    """

    runs: tuple[Seen, ...]
    over: int
    failures: tuple[RunReport, ...]
    idle: float


class Following:
    """Runs that are followed; `report` is there at any time, also after an interruption.

    `on_append` is told of each run that was written to, and once of each way in which that failed;
    `on_wait` what is waited for, after each poll. `wait` sleeps for some seconds and says whether
    to stop, as `threading.Event().wait` does. `reason` says in the end why it is over.

    Raises ConfigError for what cannot be followed.
    """

    def __init__(
        self,
        locations: Sequence[str],
        exporters: Sequence[Exporter],
        options: ExportOptions,
        pace: Pace,
        *,
        on_phase: OnPhase = lambda run, phase: None,
        on_append: OnReport = lambda report: None,
        on_wait: Callable[[Waiting], None] = lambda waiting: None,
        wait: Wait | None = None,
        clock: Callable[[], float] = time.monotonic,
        look: Look = stamps,
    ) -> None:
        if "-" in locations:
            raise ConfigError("standard input cannot be followed: give a file or a directory")
        one_name(locations, options)
        if options.dry_run:
            raise ConfigError("--follow writes what is new, and --dry-run nothing: leave one out")
        if options.read.fill_from_events:
            raise ConfigError(
                "--fill-from-events is for trainings that have ended, and --follow for those that "
                "go on: leave out one of the two"
            )
        self._locations, self._exporters = locations, exporters
        self._options, self._pace = options, pace
        self._on_phase, self._on_append, self._on_wait = on_phase, on_append, on_wait
        self._wait, self._clock = wait or threading.Event().wait, clock
        every = options.source is not None  # which files such a source reads is its own affair
        appender = Appender(exporters, options, on_phase)
        self._places = [
            Place(place, appender, lambda at: look(at, every=every)) for place in locations
        ]
        self._done = Tally()
        self._told: set[str] = set()
        self._written = 0
        self.reason = ""

    def run(self) -> BatchReport:
        """Poll until it is over, then verify; the report. Raises ConfigError."""
        while True:
            is_stopped = self._poll_until_over()
            report = self._finish()
            is_unread = any(map(_is_unread, report.runs))
            # a state that was being written just then is no error: it goes on
            if is_stopped or not (is_unread and any(place.has_changed() for place in self._places)):
                return report

    def _poll_until_over(self) -> bool:
        """Poll until there is a reason to end; whether that is that it was told to."""
        changed = self._clock()
        while True:
            if self._poll():
                changed = self._clock()
            idle = self._clock() - changed
            self.reason = self._over(idle)
            if self.reason:
                return False
            self._on_wait(self._waiting(idle))
            if self._wait(self._pause(idle)):
                self.reason = "it was told to stop"
                return True

    def report(self) -> BatchReport:
        """What was done so far, and what cannot be read or written by now."""
        failures = (report for place in self._places for report in place.failures)
        return BatchReport((*self._done.reports(), *failures))

    def _poll(self) -> bool:
        """Look at every location; whether anything changed or was written."""
        written = self._written
        changed = [place.poll(self._take) for place in self._places]
        return any(changed) or self._written > written

    def _take(self, report: RunReport) -> None:
        """Keep a report, and tell of it what is news."""
        self._done.add(report)
        wrote = report.status in ("exported", "appended")
        self._written += wrote
        failure = repr(report.findings) if report.status == "failed" else ""
        if wrote or (failure and failure not in self._told and not _is_unread(report)):
            self._told.add(failure)
            self._on_append(report)

    def _over(self, idle: float) -> str:
        """Why it is over; empty while it is not."""
        if all(place.is_over(idle) for place in self._places):
            return "every run has its summary row"
        if 0 < self._pace.idle_timeout <= idle:
            return f"nothing changed for {self._pace.idle_timeout:g} s"
        return ""

    def _pause(self, idle: float) -> float:
        left = self._pace.idle_timeout - idle
        return min(self._pace.interval, left) if self._pace.idle_timeout else self._pace.interval

    def _waiting(self, idle: float) -> Waiting:
        places = self._places
        return Waiting(
            runs=tuple(run for place in places for run in place.runs),
            over=sum(len(place.runs) - len(place.open_runs()) for place in places),
            failures=tuple(report for place in places for report in place.failures),
            idle=idle,
        )

    def _finish(self) -> BatchReport:
        """One ordinary export of everything, which says what is there and what is wrong."""
        is_one = sum(len(place.runs) for place in self._places) < 2
        # a second run that appeared meanwhile keeps its own name
        options = self._options if is_one else replace(self._options, run_name=None)
        last = for_each_run(
            export_run,
            self._locations,
            self._exporters,
            options,
            self._on_phase,
            self._done.add,
        )
        unplaced = (report for report in last.runs if report.location is None)
        return BatchReport((*self._done.reports(), *unplaced))


class Appender:
    """Exports the runs of a location, those without news left out."""

    def __init__(
        self, exporters: Sequence[Exporter], options: ExportOptions, on_phase: OnPhase
    ) -> None:
        # a truncated file is read when it stays so, and the source is attached when it is whole
        read = replace(options.read, salvage=False, growing=True)
        self._options = replace(options, read=read, verify=False, attach_source=False)
        self._exporters, self._on_phase = exporters, on_phase
        self._held: set[tuple[int, str | None, str]] = set()  # histories that a target has

    def append(self, location: str, on_report: OnReport) -> tuple[list[Seen], list[RunReport]]:
        """The runs of a location, and what was done to each; `on_report` is told at once."""
        seen: dict[str, Seen] = {}

        def act(run: Run, exporter: Exporter, options: ExportOptions, on: OnPhase) -> RunReport:
            seen[run.source] = _seen(run)
            return self._export(run, exporter, options, on)

        report = for_each_run(
            act, [location], self._exporters, self._options, self._on_phase, on_report
        )
        return [*seen.values()], [*report.runs]

    def _export(
        self, run: Run, exporter: Exporter, options: ExportOptions, on_phase: OnPhase
    ) -> RunReport:
        history = id(exporter), run.trial, prefix_digest(run.stream, len(run.stream))
        # what tells this run from others is not in its rows before a measured value is
        if history in self._held or not any(map(run.key_rules.is_measured, run.stream.keys)):
            return RunReport(run.source, run.name, exporter.name, "unchanged", len(run.stream))
        report = export_run(run, exporter, options, on_phase)
        if report.status != "failed":
            self._held.add(history)
        return report


class Place:
    """A location: how it looked at the last poll, and what came of reading it then."""

    def __init__(
        self, location: str, appender: Appender, look: Callable[[str], Stamps | None]
    ) -> None:
        self._location, self._appender, self._look = location, appender, look
        self._stamps: Stamps | None = None
        self._was_read = False
        self._pause = self._left = 0  # polls between attempts at what fails, and until the next
        self.runs: list[Seen] = []
        self.failures: list[RunReport] = []

    def poll(self, on_report: OnReport) -> bool:
        """Read it and export its runs if it changed, or if what failed is tried again; whether it
        changed.
        """
        now = self._look(self._location)  # before reading: a change from here on is seen next time
        if self.runs and now == {self._location: Stamp(MISSING)}:
            now = None  # it was read, so it is no file
        is_new = not self._was_read or (now is not None and now != self._stamps)
        if is_new or now is None or self._is_due():
            self._stamps, self._was_read = now, True
            self.runs, reports = self._appender.append(self._location, on_report)
            self.failures = [report for report in reports if report.status == "failed"]
            self._left = self._pause = 1 if is_new else min(2 * self._pause, RAREST)
        return is_new

    def has_changed(self) -> bool:
        """Whether it looks otherwise now than when it was read last."""
        return self._look(self._location) != self._stamps

    def _is_due(self) -> bool:
        """Whether what failed is to be tried again though nothing changed."""
        self._left -= 1
        return bool(self.failures) and self._left <= 0

    def is_over(self, idle: float) -> bool:
        """Whether nothing is waited for, after these seconds without a change."""
        settled = not self.failures or idle >= SETTLED
        return bool(self.runs) and settled and not self.open_runs()

    def open_runs(self) -> list[Seen]:
        """The runs without a summary row, unless their directory has one that is newer."""
        newest: dict[str, int] = {}
        for run in self.runs:
            if run.has_summary:
                newest[run.folder] = max(newest.get(run.folder, 0), self._changed(run.saves))
        return [
            run
            for run in self.runs
            if not run.has_summary and self._changed(run.saves) >= newest.get(run.folder, 0)
        ]

    def _changed(self, paths: Iterable[str]) -> int:
        """When the newest of these files was written; 0 where that is not known."""
        known = self._stamps or {}
        return max((known[path].changed for path in paths if path in known), default=0)


def _seen(run: Run) -> Seen:
    return Seen(
        name=run.name,
        rows=len(run.stream),
        has_summary=bool((run.stream.kind == RowKind.SUMMARY).any()),
        saves=run.saves or (run.source,),
        folder=output_of(run.source),
    )


def _is_unread(report: RunReport) -> bool:
    return any(finding.code == "source" for finding in report.findings)
