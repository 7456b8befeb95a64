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
        with interrupts(), line:
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


class Interrupts:
    """Ctrl-C and a polite kill, which is like it: what was done is told, what was begun cleaned."""

    def __init__(self) -> None:
        self._holding = self._came = False

    def handle(self, number: int, frame: object) -> None:
        """The handler of both signals."""
        if not self._holding:
            raise KeyboardInterrupt
        self._came = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it they wait until the end: what is begun to be told is whole."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._came:
                self._came = False
                raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Within it the signals are handled so, unless they are ignored (those of a job in the
    background often are).
    """
    ours = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield ours
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    handled = [kind for kind in kinds if signal.getsignal(kind) is not signal.SIG_IGN]
    before = {kind: signal.signal(kind, ours.handle) for kind in handled}
    try:
        yield ours
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler or signal.SIG_DFL)
