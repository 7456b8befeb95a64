"""`bridge export --follow`: how it is started, stopped and told; `following` does the rest."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import click

from bridges import console
from bridges.console_follow import FollowLine
from bridges.exporters.base import Exporter
from bridges.following import Following, Pace
from bridges.pipeline import ExportOptions
from bridges.report import BatchReport


def follow(
    sources: Sequence[str],
    exporters: Sequence[Exporter],
    options: ExportOptions,
    pace: Mapping[str, float],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Follow the sources until it is over; the exit code. Raises ConfigError.

    Where that is interrupted, what was done is told before KeyboardInterrupt is raised.
    """
    line = FollowLine(quiet, verbose)
    watched = Following(
        sources,
        exporters,
        options,
        Pace(**pace),
        on_phase=line.phase,
        on_append=line.append,
        on_wait=line.wait,
    )
    try:
        with terminated_as_interrupted(), line:
            line.begin(sources)
            report = watched.run()
            line.end(watched.reason)
    except KeyboardInterrupt:
        _print(watched.report(), exporters, as_json, quiet, verbose)
        raise
    _print(report, exporters, as_json, quiet, verbose)
    return report.exit_code


def _print(
    report: BatchReport, exporters: Sequence[Exporter], as_json: bool, quiet: bool, verbose: bool
) -> None:
    if as_json:
        console.print_json(report.as_dict())
        return
    for run in report.runs:
        if run.failed or not quiet:
            click.echo(console.format_run(run, verbose))
    if not quiet:
        console.print_end(report, exporters)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Within it a polite kill is like Ctrl-C: what was done is told, what was begun is cleaned."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it Ctrl-C and a polite kill wait until the end: what is begun to be told is whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda number, _: came.append(number)) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(came[0])
