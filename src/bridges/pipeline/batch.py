"""Exports or verifies the runs of several sources with several targets.

One bad run or location never stops the rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING

from bridges.errors import BridgeError, ConfigError, TreeError
from bridges.exporters.base import BaseExporter, Exporter, Parallel, WritesBatches
from bridges.pipeline.export_run import OnPhase, RunAction, export_run
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import read_runs
from bridges.report import BatchReport, RunReport, failure
from bridges.sources.trainer.checkpoint_paths import output_of
from bridges.sources.trainer.paths import has_nothing, with_rows
from bridges.stream.model import Run

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Work = Callable[[], RunReport]


def for_each_run(
    action: RunAction,
    locations: Sequence[str],
    exporters: Sequence[Exporter],
    options: ExportOptions,
    on_phase: OnPhase = lambda run, phase: None,
    on_report: Callable[[RunReport], None] = lambda report: None,
    on_found: Callable[[Run], None] = lambda run: None,
) -> BatchReport:
    """Call `export_run` or `verify_run` for every run of every location and every exporter.

    One bad run or location never stops the rest. `on_phase` gets the current phase, `on_found`
    each run after reading, `on_report` each report, in the order of the runs.
    """
    one_name(locations, options)
    reports: list[RunReport] = []
    pool = _OrderedPool(options.jobs)
    try:
        works = _work(action, locations, exporters, options, on_phase, on_found)
        for done in starmap(pool.take, works):  # keeps no work, as its run may be large
            for report in done:
                reports.append(report)
                on_report(report)
        for report in pool.rest():
            reports.append(report)
            on_report(report)
    finally:
        pool.close()
        for report in pool.rest(done_only=True):  # uploads finished before the interrupt
            on_report(report)
    return BatchReport(tuple(reports))


def one_name(locations: Sequence[str], options: ExportOptions) -> None:
    """Raises ConfigError if one run name is given for several locations."""
    if options.run_name and len(locations) > 1:
        raise ConfigError("--run-name names one run, but several sources are given; use --group")


def _work(
    action: RunAction,
    locations: Sequence[str],
    exporters: Sequence[Exporter],
    options: ExportOptions,
    on_phase: OnPhase,
    on_found: Callable[[Run], None],
) -> Iterator[tuple[Work, bool]]:
    """The work items, and whether each can run in parallel with others."""
    batching = [one for one in exporters if action is export_run and isinstance(one, WritesBatches)]
    if batching:
        from bridges.pipeline.small_runs import grouped
    for location in locations:
        read: set[str] = set()
        on_phase(location, "reading")
        runs = with_rows(location, read_runs(location, options))
        groups = grouped(runs) if batching else map(_alone, runs)
        started = time.perf_counter()
        try:
            for group in groups:
                seconds = (time.perf_counter() - started) / len(group)
                for run in group:
                    on_found(run)
                    read.add(output_of(run.source))
                    del run
                for report, is_parallel in _of_group(
                    action, group, exporters, batching, options, on_phase
                ):
                    yield partial(_later, report, seconds), is_parallel
                    del report  # its run may be large, and the next one is read now
                group.clear()
                started = time.perf_counter()
        except ConfigError:
            raise
        except BridgeError as error:
            yield from (
                (partial(_unread, location, one, exporter, has_nothing(one, read)), False)
                for one in (error.errors if isinstance(error, TreeError) else [error])
                for exporter in exporters
            )


def _alone(run: Run) -> list[Run]:
    return [run]


def _of_group(
    action: RunAction,
    group: list[Run],
    exporters: Sequence[Exporter],
    batching: Sequence[Exporter],
    options: ExportOptions,
    on_phase: OnPhase,
) -> Iterator[tuple[Work, bool]]:
    """The work items of some runs, and whether each can run in parallel with others."""
    written: dict[int, Iterator[RunReport]] = {}
    if batching:
        from bridges.pipeline.small_runs import export_group

        written = {id(one): export_group(group, one, options, on_phase) for one in batching}
    for run in group:
        for exporter in exporters:
            if reports := written.get(id(exporter)):
                yield partial(next, reports), False
            else:
                yield partial(action, run, exporter, options, on_phase), _is_parallel(exporter)


def _later(work: Work, seconds: float) -> RunReport:
    """The report of a work item, with the seconds before it."""
    report = work()
    return replace(report, seconds=report.seconds + seconds)


def _is_parallel(exporter: Exporter) -> bool:
    return isinstance(exporter, BaseExporter | Parallel) and exporter.parallel


def _unread(location: str, error: BridgeError, exporter: Exporter, missing: bool) -> RunReport:
    """The report of a location that cannot be read or does not exist."""
    source = getattr(error, "source", location)
    return failure(source, exporter.name, str(error), code="source", missing=missing)


class _OrderedPool:
    """Runs at most `jobs` work items at once, queues twice as many, and keeps their order."""

    def __init__(self, jobs: int) -> None:
        self._jobs = max(1, jobs)
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[RunReport]] = deque()

    def take(self, work: Work, is_parallel: bool) -> Iterator[RunReport]:
        """Run or submit the work; yields the results finished so far, in order."""
        if is_parallel and self._jobs > 1:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor  # slow to import

                self._pool = ThreadPoolExecutor(self._jobs)
            self._waiting.append(self._pool.submit(work))
            while len(self._waiting) > 2 * self._jobs or (
                self._waiting and self._waiting[0].done()
            ):
                yield self._waiting.popleft().result()
        else:
            yield from self.rest()
            yield work()

    def rest(self, *, done_only: bool = False) -> Iterator[RunReport]:
        """The remaining results; `done_only` leaves out cancelled and failed work."""
        while self._waiting:
            result = self._waiting.popleft()
            if not done_only or not (result.cancelled() or result.exception()):
                yield result.result()

    def close(self) -> None:
        """Cancel queued work and wait for running work."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
