"""The command `bridge export --follow`: starts and stops it and prints its reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from bridges.cli import console
from bridges.cli.follow_screen import FollowLine
from bridges.cli.signals import interrupts
from bridges.exporters.base import Exporter
from bridges.pipeline.follow import Following
from bridges.pipeline.options import ExportOptions, Pace
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
    """Follow the sources until they have finished. Returns the exit code. Raises ConfigError.

    On interrupt, prints the finished runs, then raises KeyboardInterrupt.
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
    lines = console.RunLines(verbose)
    for run in report.runs:
        if run.failed or not quiet:
            click.echo(lines.of(run))
    if not quiet:
        console.print_end(report, exporters)
