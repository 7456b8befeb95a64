"""The command `bridge inspect`: reads the sources and prints trees, pages or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridges.cli import console
from bridges.cli.report import new_page, write_page
from bridges.cli.run_page import print_page
from bridges.cli.tree import Place, print_tree
from bridges.errors import SourceError, TreeError
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import read_runs
from bridges.sources.trainer.checkpoint_paths import output_of
from bridges.sources.trainer.paths import has_nothing

if TYPE_CHECKING:
    from bridges.views.charts.page import ChartPage


def inspect(
    sources: Sequence[str],
    options: ExportOptions,
    html: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Print the runs of these sources, and write their charts to the page `html`, if given.

    Returns the exit code.
    """
    page = new_page(html, sources) if html else None
    places = [Place(location, keep_pages=as_json or verbose) for location in sources]
    with console.Progress(len(sources), quiet) as progress:
        for place in places:
            progress.phase(place.location, "reading")
            _read(place, options, page)
            progress.advance()
    errors = [error for place in places for error in place.errors]
    if as_json:
        failed = [{"source": error.source, "message": str(error)} for error in errors]
        documents = [page for place in places for page in place.pages]
        console.print_json({"runs": documents, "errors": failed})
    elif not quiet:
        _show(places, verbose)
    if page is not None and html is not None:
        write_page(page, html, quiet or as_json)
    for failure in errors:
        console.print_error(str(failure))
    return _exit_code(places)


def _read(place: Place, options: ExportOptions, page: ChartPage | None) -> None:
    try:
        for found in read_runs(place.location, options):
            place.add(found)
            if page is not None:
                page.add(found)
    except SourceError as error:
        place.errors.append(error)
    except TreeError as error:
        place.errors += error.errors


def _show(places: Sequence[Place], verbose: bool) -> None:
    """Print the tree and the kept pages of each place."""
    for place in places:
        if place.is_tree:
            print_tree(place, verbose)
        for page in place.pages:
            print_page(page, verbose)


def _exit_code(places: Sequence[Place]) -> int:
    """0 for no errors, 2 if the only errors are sources with nothing to read, 1 otherwise."""
    nothing = [
        has_nothing(error, {output_of(record.source) for record in place.records})
        for place in places
        for error in place.errors
    ]
    if not nothing:
        return 0
    return 2 if all(nothing) else 1
