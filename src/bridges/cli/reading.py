"""Reads the runs of several locations and collects the errors of unreadable ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridges.cli.console import Progress, print_error
from bridges.errors import SourceError, TreeError
from bridges.pipeline.options import ExportOptions
from bridges.pipeline.read_runs import read_runs
from bridges.sources.trainer.checkpoint_paths import output_of
from bridges.sources.trainer.paths import has_nothing
from bridges.stream.model import Run


class Reading:
    """The runs of some locations, read one at a time; `errors` has the errors so far."""

    def __init__(self, locations: Sequence[str], options: ExportOptions, quiet: bool) -> None:
        self.errors: list[SourceError] = []
        self._locations = locations
        self._options = options
        self._quiet = quiet
        self._outputs: set[str] = set()

    def runs(self) -> Iterator[Run]:
        """The runs, with progress on stderr."""
        with Progress(len(self._locations), self._quiet) as progress:
            for location in self._locations:
                progress.phase(location, "reading")
                yield from self._runs_of(location)
                progress.advance()

    def _runs_of(self, location: str) -> Iterator[Run]:
        try:
            for run in read_runs(location, self._options):
                self._outputs.add(output_of(run.source))
                yield run
        except SourceError as error:
            self.errors.append(error)
        except TreeError as error:
            self.errors += error.errors

    def end(self) -> int:
        """Print the errors. Returns the exit code: 0, or 2 for nothing to read, else 1."""
        for error in self.errors:
            print_error(str(error))
        nothing = [has_nothing(error, self._outputs) for error in self.errors]
        return 0 if not nothing else 2 if all(nothing) else 1
