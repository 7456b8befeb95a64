"""The command `bridge report`: the charts of many runs as one HTML page."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bridges.cli.console import count_noun, print_json, printable
from bridges.cli.reading import Reading
from bridges.pipeline.options import ExportOptions
from bridges.stream.redact import redact_message

if TYPE_CHECKING:
    from bridges.views.charts.page import ChartPage


def report(
    sources: Sequence[str], options: ExportOptions, path: str, as_json: bool, quiet: bool
) -> int:
    """Write the page of the runs of these sources. Returns the exit code."""
    page, reading = new_page(path, sources), Reading(sources, options, quiet)
    for run in reading.runs():
        page.add(run)
    write_page(page, path, quiet or as_json)
    if as_json:
        failed = [{"source": error.source, "message": str(error)} for error in reading.errors]
        print_json({"page": path, "runs": len(page), "errors": failed})
    return reading.end()


def new_page(path: str, sources: Sequence[str]) -> ChartPage:
    """An empty page, titled with its sources. Raises ConfigError."""
    from bridges.views.charts.page import ChartPage  # not needed by every `inspect`

    names = [os.path.basename(os.getcwd()) if name == "." else name for name in sources]
    return ChartPage(path, ", ".join(map(redact_message, names)))


def write_page(page: ChartPage, path: str, quiet: bool) -> None:
    """Write the page, unless it has no runs, and print the command for viewing it."""
    if not len(page):
        return
    page.write()
    if not quiet:
        command = click.style(printable(f"bridge view {shlex.quote(path)}"), bold=True)
        click.echo(f"{count_noun(len(page), 'run')} → {printable(path)}. View: {command}")
