"""The command `bridge ls`: one line per run, as a table, JSON or CSV."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Iterator, Sequence

import click

from bridges.cli.console import count_noun, print_json, printable
from bridges.cli.reading import Reading
from bridges.cli.run_table import Table
from bridges.pipeline.options import ExportOptions
from bridges.stream.redact import redact_key, redact_message
from bridges.views.listing import PARAM, PARAMS, Listing

FACTS = ("name", "source", "group", "status", "rows", "steps")  # of JSON and CSV


def list_runs(
    sources: Sequence[str],
    options: ExportOptions,
    columns: Sequence[str],
    sort: str,
    format: str,
    quiet: bool,
) -> int:
    """Print the runs of these sources in a format (`json`, `csv`, or empty for a table).

    Returns the exit code. Raises ConfigError for an unknown column.
    """
    listing, reading = Listing(columns, sort), Reading(sources, options, quiet)
    if format == "csv" and columns and not sort and PARAMS not in columns:
        _stream_csv(listing, reading, columns)
        return reading.end()
    for run in reading.runs():
        listing.add(run)
    order = listing.order()
    if format == "json":
        _print_json(listing, order, columns, reading)
    elif format == "csv":
        _print_csv(listing, order, columns)
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in Table(listing, columns, width).lines(order):
            click.echo(line)
        if width is not None and len(listing) and not quiet:
            click.secho(f"{count_noun(len(listing), 'run')}", dim=True)
    return reading.end()


def _stream_csv(listing: Listing, reading: Reading, columns: Sequence[str]) -> None:
    """Print each row as soon as its run is read."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(_name, columns))
    for run in reading.runs():
        at = listing.add(run)
        writer.writerow(_text(listing.value(at, column)) for column in columns)
    listing.order()  # raises for an unknown column


def _print_csv(listing: Listing, order: Sequence[int], columns: Sequence[str]) -> None:
    columns = [*_expanded(listing, columns or _defaults(listing))]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(_name, columns))
    for run in order:
        writer.writerow(_text(listing.value(run, column)) for column in columns)


def _print_json(
    listing: Listing, order: Sequence[int], columns: Sequence[str], reading: Reading
) -> None:
    columns = columns or _defaults(listing)
    runs = [{_name(name): listing.value(run, name) for name in columns} for run in order]
    failed = [{"source": error.source, "message": str(error)} for error in reading.errors]
    print_json({"runs": runs, "errors": failed})


def _defaults(listing: Listing) -> list[str]:
    metrics = [name for key in listing.metrics() for name in (key, f"{key}:best")]
    return [*FACTS, *metrics, PARAMS]


def _expanded(listing: Listing, columns: Sequence[str]) -> Iterator[str]:
    """The columns with one for each differing param in place of `params`."""
    for column in columns:
        if column == PARAMS:
            yield from (f"{PARAM}{key}" for key in listing.differing())
        else:
            yield column


def _name(column: str) -> str:
    return printable(redact_key(column))


def _text(value: object) -> str:
    """A CSV cell: numbers in full, None as an empty text."""
    return "" if value is None else printable(redact_message(str(value)))
