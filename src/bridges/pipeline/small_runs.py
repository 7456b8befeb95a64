"""Small runs in groups: a target can write the runs of a group in one transaction.

A transaction costs as much as a small run. Groups are small, so that other writers of the target
wait for less than a second, and an interrupt loses little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import zip_longest

from bridges.errors import BridgeError, ConfigError
from bridges.exporters.base import Exporter, WritesBatches
from bridges.pipeline.export_run import OnPhase, export_run
from bridges.pipeline.options import ExportOptions
from bridges.report import RunReport
from bridges.stream.model import Run

MAX_RUNS, MAX_VALUES = 64, 1 << 14  # of a group
READING_SECONDS = 0.5  # of a group, so that reports do not wait for a slow source


def grouped(runs: Iterator[Run]) -> Iterator[list[Run]]:
    """Successive runs in groups; a large run is a group of its own.

    An error is raised after the runs before it. A group is emptied before the next run is read, as
    its runs may be large.
    """
    group: list[Run] = []
    values, began = 0, time.monotonic()
    failed: BridgeError | None = None
    try:
        for run in runs:
            values += _values(run)
            if group and values > MAX_VALUES:
                yield group
                group.clear()
                values = _values(run)
            group.append(run)
            is_full = len(group) == MAX_RUNS or values > MAX_VALUES
            del run
            if is_full or time.monotonic() - began > READING_SECONDS:
                yield group
                group.clear()
                values, began = 0, time.monotonic()
    except BridgeError as error:
        failed = error
    if group:
        yield group
    if failed is not None:
        raise failed


def _values(run: Run) -> int:
    """The number of values in a run: points, params and tags."""
    points = sum(len(series.rows) for series in run.stream.series)
    return points + len(run.params) + len(run.tags) + len(run.facts)


def export_group(
    runs: Sequence[Run],
    exporter: Exporter,
    options: ExportOptions,
    on_phase: OnPhase = lambda run, phase: None,
) -> Iterator[RunReport]:
    """The reports of `export_run` for some runs, in one transaction if the target has those.

    A run that fails in the transaction is exported again on its own, and so are all of them if the
    transaction fails. Raises ConfigError.
    """
    batch = _batch(exporter, runs, options)
    if batch is None and runs:  # the first run may create the target
        yield export_run(runs[0], exporter, options, on_phase)
        runs = runs[1:]
        batch = _batch(exporter, runs, options)
    written = _in_batch(batch, runs, exporter, options, on_phase) if batch else []
    for run, report in zip_longest(runs, written):
        if report is None or report.status == "failed":
            report = export_run(run, exporter, options, on_phase)
        yield report


def _batch(
    exporter: Exporter, runs: Sequence[Run], options: ExportOptions
) -> AbstractContextManager[None] | None:
    """A transaction for some runs; None if the next one is exported alone."""
    if len(runs) < 2 or options.dry_run or not isinstance(exporter, WritesBatches):
        return None
    try:
        return exporter.batch()
    except ConfigError:
        raise
    except Exception:  # deliberately broad: the export of the run reports the error
        return None


def _in_batch(
    batch: AbstractContextManager[None],
    runs: Sequence[Run],
    exporter: Exporter,
    options: ExportOptions,
    on_phase: OnPhase,
) -> list[RunReport]:
    """The reports of the first runs, up to a silence of the target; none if nothing was written."""
    reports = []
    at_once = replace(options, retries=0)  # a pause would keep the target locked
    try:
        with batch:
            for run in runs:
                reports.append(export_run(run, exporter, at_once, on_phase))
                if reports[-1].transient:
                    break
    except ConfigError:
        raise
    except Exception:  # deliberately broad: each run is exported again and reports its own error
        return []
    return reports
