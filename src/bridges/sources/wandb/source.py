"""W&B as a source: the runs in `wandb/` folders, and on servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bridges.errors import SourceError, TreeError
from bridges.formats.wandb_log.rows import HistoryColumns
from bridges.sources.fetch import MissingSourceError
from bridges.sources.notes import with_notes
from bridges.sources.options import ReadOptions
from bridges.sources.place import WANDB, local_path
from bridges.sources.selection import Selection
from bridges.sources.wandb.content import Content
from bridges.sources.wandb.directories import Ordered, by_run, in_order
from bridges.sources.wandb.early import read_early
from bridges.sources.wandb.logs import EmptyLogError, ReadLog, read_wandb
from bridges.sources.wandb.notes import is_empty, notes_on
from bridges.sources.wandb.places import LogPlace, logs_at
from bridges.sources.wandb.runs import run_of
from bridges.stream.finding import Finding, Severity
from bridges.stream.model import Run

EXPECTED = "run directories as in `wandb/`, each with its run-ID.wandb"


@dataclass(frozen=True)
class LogsPart:
    """The logs of a run for a worker."""

    location: str
    logs: tuple[LogPlace, ...]
    size: int = 0
    neighbour: str | None = None
    names: tuple[object, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The files of its logs."""
        return tuple(path for log in self.logs for path in log.files)


class WandbSource:
    """Reads W&B runs: wandb directories, .wandb files, W&B servers."""

    name = "wandb"
    selects = True

    def claims(self, location: str) -> bool:
        """Whether it is the address of a server, or a place with local runs."""
        if location.startswith(WANDB):
            return True
        try:
            logs = logs_at(local_path(location), {})
        except OSError:
            return False
        return any(log.is_early or log.path.endswith(".wandb") for log in logs)

    def read(self, location: str, options: ReadOptions) -> Iterator[Run]:
        """The runs at a location; errors are raised after the last readable run.

        Raises SourceError, or TreeError for several.
        """
        if location.startswith(WANDB):
            from bridges.sources.wandb.server import read_server  # needs the wandb package

            yield from read_server(location, options)
            return
        reading = _Reading(location, options)
        yield from reading.all_runs(by_run(reading.logs()))
        reading.end()

    def files(self, location: str) -> list[str] | None:
        """The files of the runs at a location; None for a server."""
        if location.startswith(WANDB):
            return None
        return [path for log in logs_at(local_path(location), {}) for path in log.files]

    def split(self, location: str) -> Sequence[LogsPart]:
        """The runs of a location. Raises SourceError."""
        if location.startswith(WANDB):
            return [LogsPart(location, ())]
        logs = _Reading(location, ReadOptions()).logs()
        return [LogsPart(location, tuple(members)) for members in by_run(logs)]

    def read_part(self, part: object, options: ReadOptions) -> Iterator[Run]:
        """The run of a part. Raises SourceError, TreeError."""
        assert isinstance(part, LogsPart)
        if not part.logs:
            yield from self.read(part.location, options)
            return
        reading = _Reading(part.location, options)
        yield from reading.all_runs([part.logs])
        reading.end(is_part=True)


class _Reading:
    """The reading of a location: the options, and the errors and counts so far."""

    def __init__(self, location: str, options: ReadOptions) -> None:
        self._location, self._options = location, options
        self._selection = Selection.of(options.select)
        self._errors: list[SourceError] = []
        self._notes: list[Finding] = []  # see `sources.notes`
        self._read = self._unselected = self._empty = 0

    def logs(self) -> list[LogPlace]:
        """The logs at the location. Raises MissingSourceError without any."""
        unlisted: dict[str, str] = {}
        found = logs_at(local_path(self._location), unlisted)
        self._errors += [_unlisted(path, why) for path, why in unlisted.items()]
        if not found and not self._errors:
            raise MissingSourceError(
                self._location,
                found="no W&B run",
                expected=EXPECTED,
                remedy="Name the directory `wandb` of the training, or wandb://ENTITY/PROJECT.",
            )
        return found

    def all_runs(self, groups: Iterable[Sequence[LogPlace]]) -> Iterator[Run]:
        """The runs of some groups of logs, with notes about the others."""
        runs = (run for logs in groups for own in in_order(logs) for run in self._runs(own))
        return with_notes(runs, self._notes)

    def _runs(self, logs: Ordered) -> Iterator[Run]:
        """The run of some logs, if it has rows or a summary, and is selected."""
        content = self._content(logs)
        if content is None:
            return
        run = run_of(content, self._options)
        if is_empty(run):
            self._empty += 1
            self._notes += notes_on(run)
        elif not self._takes(run):
            self._unselected += 1
        else:
            self._read += 1
            yield run

    def _takes(self, run: Run) -> bool:
        project = run.project or ""
        takes, run_id = self._selection.takes, str(run.facts.get("wandb.run_id", ""))
        return self._selection.takes_experiment(project) and takes(
            run.name, run_id, run.status, run.tags
        )

    def _content(self, logs: Ordered) -> Content | None:
        """The content of a run; None if all its logs are empty or unreadable."""
        history, read = HistoryColumns(), list[ReadLog]()
        places, findings = logs.places, logs.findings
        for place in places:
            with self._noting(place):
                read.append((read_early if place.is_early else read_wandb)(place, history))
        if not read:
            return None
        files = tuple(path for place in places for path in place.files)
        main = max(read, key=lambda log: log.rows)
        columns = [*history.columns()]
        return Content(
            places[0].run_id,
            main.place,
            files,
            read,
            columns,
            history.count,
            history.rounded,
            [*findings],
        )

    @contextmanager
    def _noting(self, place: LogPlace) -> Iterator[None]:
        """Note an empty or unreadable log."""
        try:
            yield
        except EmptyLogError:
            self._empty += 1
            message = "the log is empty: its run never flushed a record"
            self._notes.append(Finding("empty-log", Severity.INFO, place.path, message))
        except SourceError as error:
            self._errors.append(error)

    def end(self, *, is_part: bool = False) -> None:
        """Raises the errors; without any, MissingSourceError if no run was read."""
        if not (self._read or self._errors or is_part):
            self._errors.append(self._no_runs())
        if self._errors:
            one = len(self._errors) == 1
            raise self._errors[0] if one else TreeError(self._location, self._errors)

    def _no_runs(self) -> SourceError:
        found = f"{self._empty:,} W&B run{'s' * (self._empty != 1)} without rows"
        remedy = "Check whether the runs logged anything before they ended."
        if self._unselected:
            found = f"{self._unselected:,} W&B runs, none of them selected"
            remedy = "Check the patterns of --select: `bridge ls` shows names and projects."
        return MissingSourceError(
            self._location, found=found, expected="a run with rows", remedy=remedy
        )


def _unlisted(path: str, why: str) -> SourceError:
    return SourceError(
        path,
        found=f"an unreadable directory ({why})",
        expected="a readable directory",
        remedy="Check its permissions.",
    )
