"""Following: appends the new rows of runs in training to their targets as states are saved.

Each poll lists the locations (`pipeline.watching`). If one changed, all its states are read and the
runs with new rows are exported. A poll costs a `stat` of each file (40 ms for 5,000 files), a
change the reading of its location (0.6 s for 100 checkpoints of up to 5,500 rows). Appends are not
read back, which would double their cost; at the end, an ordinary export reads everything again and
verifies it.

Following ends when every run has its summary row, which the Trainer writes after the last
checkpoint. A run without one is abandoned if a newer run in the same output directory has finished
(crash and resume). Otherwise following ends after the idle timeout.

Read errors are not final: a state can be half written or just rotated away, a directory not yet
created. Such a location is read again when it changes, and after 1, 2, 4 … polls.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bridges.errors import ConfigError
from bridges.exporters.base import Exporter
from bridges.pipeline.batch import for_each_run, one_name
from bridges.pipeline.export_run import OnPhase, export_run
from bridges.pipeline.options import ExportOptions, Pace
from bridges.pipeline.watching import Stamp, Stamps, stamps
from bridges.report import BatchReport, RunReport, Tally
from bridges.sources.remote import MISSING
from bridges.sources.trainer.checkpoint_paths import output_of
from bridges.stream.identity import prefix_digest
from bridges.stream.model import RowKind, Run

SETTLED = 60.0  # seconds without a change before an unreadable file no longer delays the end
RAREST = 32  # maximum polls between two attempts at a failing, unchanged location

Wait = Callable[[float], bool]
Look = Callable[..., Stamps | None]
OnReport = Callable[[RunReport], None]


@dataclass(frozen=True)
class Seen:
    """The state of a run at the last read; `folder` is its output directory.

    `has_summary`: it is over, by its summary row or by its status in a tracker.
    """

    name: str
    rows: int
    has_summary: bool
    saves: tuple[str, ...]
    folder: str


@dataclass(frozen=True)
class Waiting:
    """The status after a poll: the runs, the number of finished or abandoned ones (`over`), the
    current failures, and the seconds since the last change (`idle`).
    """

    runs: tuple[Seen, ...]
    over: int
    failures: tuple[RunReport, ...]
    idle: float


class Following:
    """Follows runs; `report` can be called at any time, also after an interrupt.

    `on_append` gets the report of each run with new rows, and of each new failure; `on_wait` gets
    the status after each poll. `wait` sleeps for some seconds and returns whether to stop, like
    `threading.Event().wait`. `reason` is the reason for the end, in words.

    Raises ConfigError for locations and options that cannot be followed.
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
            raise ConfigError(
                "--follow writes new rows and --dry-run writes nothing: leave one out"
            )
        if options.read.fill_from_events:
            raise ConfigError(
                "--fill-from-events is for trainings that have ended, and --follow for those that "
                "go on: leave out one of the two"
            )
        self._locations, self._exporters = locations, exporters
        self._options, self._pace = options, pace
        self._on_phase, self._on_append, self._on_wait = on_phase, on_append, on_wait
        self._wait, self._clock = wait or threading.Event().wait, clock
        appender = Appender(exporters, options, on_phase)
        self._places = [
            Place(place, appender, lambda at: look(at, options.source, options.read))
            for place in locations
        ]
        self._done = Tally()
        self._reported: set[str] = set()
        self._written = 0
        self.reason = ""

    def run(self) -> BatchReport:
        """Poll until the end, then verify. Returns the report. Raises ConfigError."""
        while True:
            is_stopped = self._poll_until_over()
            report = self._finish()
            is_unread = any(map(_is_unread, report.runs))
            # a state written during the verification is not an error: continue
            if is_stopped or not (is_unread and any(place.has_changed() for place in self._places)):
                return report

    def _poll_until_over(self) -> bool:
        """Poll until there is a reason to end. Returns whether `wait` asked to stop."""
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
                self.reason = "stopped by the caller"
                return True

    def report(self) -> BatchReport:
        """The results so far, and the current failures."""
        failures = (report for place in self._places for report in place.failures)
        return BatchReport((*self._done.reports(), *failures))

    def _poll(self) -> bool:
        """Poll every location. Returns whether anything changed or was written."""
        written = self._written
        changed = [place.poll(self._take) for place in self._places]
        return any(changed) or self._written > written

    def _take(self, report: RunReport) -> None:
        """Keep a report, and pass it to `on_append` if it is news."""
        self._done.add(report)
        wrote = report.status in ("exported", "appended")
        self._written += wrote
        failure = repr(report.findings) if report.status == "failed" else ""
        if wrote or (failure and failure not in self._reported and not _is_unread(report)):
            self._reported.add(failure)
            self._on_append(report)

    def _over(self, idle: float) -> str:
        """The reason to end; empty if there is none."""
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
        """Export and verify everything once."""
        is_one = sum(len(place.runs) for place in self._places) < 2
        # if a second run appeared, each keeps its own name
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
    """Exports the runs of a location that have new rows."""

    def __init__(
        self, exporters: Sequence[Exporter], options: ExportOptions, on_phase: OnPhase
    ) -> None:
        # truncated files are read, and files attached or copied, only at the end
        read = replace(options.read, salvage=False, growing=True)
        self._options = replace(
            options, read=read, verify=False, attach_source=False, copy_files=False
        )
        self._exporters, self._on_phase = exporters, on_phase
        self._held: set[tuple[object, ...]] = set()  # histories in the targets

    def append(self, location: str, on_report: OnReport) -> tuple[list[Seen], list[RunReport]]:
        """Export the runs of a location, with `on_report` for each. Returns runs and reports."""
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
        digest, tracked = prefix_digest(run.stream, len(run.stream)), repr(run.identity)
        history = id(exporter), run.trial, tracked, digest  # runs of a tracker may be equal
        # rows without a measured value do not identify the run yet
        if history in self._held or not any(map(run.key_rules.is_measured, run.stream.keys)):
            return RunReport(run.source, run.name, exporter.name, "unchanged", len(run.stream))
        report = export_run(run, exporter, options, on_phase)
        if report.status != "failed":
            self._held.add(history)
        return report


class Place:
    """A location: its file stamps at the last poll, and the runs and failures read then."""

    def __init__(
        self, location: str, appender: Appender, look: Callable[[str], Stamps | None]
    ) -> None:
        self._location, self._appender, self._look = location, appender, look
        self._stamps: Stamps | None = None
        self._was_read = False
        self._pause = self._left = 0  # polls between attempts after failures, and until the next
        self.runs: list[Seen] = []
        self.failures: list[RunReport] = []

    def poll(self, on_report: OnReport) -> bool:
        """Read the location and export its runs if it changed, or to retry a failure.

        Returns whether it changed.
        """
        # before reading, so that the next poll sees later changes
        now = self._look(self._location)
        if self.runs and now == {self._location: Stamp(MISSING)}:
            now = None  # it was read, so it is not a file
        is_new = not self._was_read or (now is not None and now != self._stamps)
        if is_new or now is None or self._is_due():
            self._stamps, self._was_read = now, True
            self.runs, reports = self._appender.append(self._location, on_report)
            self.failures = [report for report in reports if report.status == "failed"]
            self._left = self._pause = 1 if is_new else min(2 * self._pause, RAREST)
        return is_new

    def has_changed(self) -> bool:
        """Whether it changed since it was last read."""
        return self._look(self._location) != self._stamps

    def _is_due(self) -> bool:
        """Whether to retry failures although nothing changed."""
        self._left -= 1
        return bool(self.failures) and self._left <= 0

    def is_over(self, idle: float) -> bool:
        """Whether all runs are over, after these seconds without a change."""
        settled = not self.failures or idle >= SETTLED
        return bool(self.runs) and settled and not self.open_runs()

    def open_runs(self) -> list[Seen]:
        """The runs without a summary row, except if a newer run of their directory has finished."""
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
        """The newest mtime of these files; 0 if unknown."""
        known = self._stamps or {}
        return max((known[path].changed for path in paths if path in known), default=0)


def _seen(run: Run) -> Seen:
    of_tracker = run.record is not None  # it has a status, and a place of its own
    return Seen(
        name=run.name,
        rows=len(run.stream),
        has_summary=(
            run.status != "running"
            if of_tracker
            else bool((run.stream.kind == RowKind.SUMMARY).any())
        ),
        saves=run.saves or (run.source,),
        folder=run.source if of_tracker else output_of(run.source),
    )


def _is_unread(report: RunReport) -> bool:
    return any(finding.code == "source" for finding in report.findings)
