"""`bridge migrate` and its Python function: plans the tasks of a config and runs the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath

from bridges.migration.config.config import MigrationConfig
from bridges.migration.config.file import load
from bridges.migration.engine import Engine
from bridges.migration.known_runs import KnownRuns
from bridges.migration.tasks import Done, Task, plan, unread
from bridges.option_names import CONFIG_KEYS, PARAMETERS
from bridges.progress import Progress
from bridges.report import BatchReport, RunReport


@dataclass
class Migration:
    """A migration with callbacks for progress.

    `on_plan` gets all tasks, `on_task` each finished task, `on_report` the report of each run and
    target, `on_left_out` the source of each run excluded by the filters, and the reason (`left_out`
    counts them). `on_wait` gets the label of a target that does not answer, the failure, and the
    maximum waiting time in seconds. `recheck` also reads and compares the runs known as unchanged.
    """

    config: MigrationConfig
    dry_run: bool = False
    recheck: bool = False
    on_plan: Callable[[Sequence[Task]], None] = lambda tasks: None
    on_task: Callable[[Task], None] = lambda task: None
    on_report: Callable[[RunReport], None] = lambda report: None
    on_left_out: Callable[[str, str], None] = lambda source, why: None
    on_wait: Callable[[str, str, float], None] = lambda label, why, seconds: None
    left_out: int = field(default=0, init=False)
    _read: set[tuple[str, tuple[str, ...]]] = field(  # see `_selection`, with a run or an error
        default_factory=set, init=False
    )

    def run(self) -> None:
        """Run the migration. Raises ConfigError and MissingDependencyError.

        On KeyboardInterrupt, the tasks in flight are finished first.
        """
        with CONFIG_KEYS.errors():
            self._known = KnownRuns(self.config.targets, self.dry_run)
            tasks, failed = plan(self.config, self._known.settings)
            self.on_plan(tasks)
            self._report(failed)
            engine = Engine(self.config.engine, self.dry_run, self._done, self.on_wait)
            engine.run(self._unknown(tasks))
            self._report(self._without_runs(tasks))

    def _unknown(self, tasks: Sequence[Task]) -> list[Task]:
        """Report the known runs, and return the tasks without them."""
        if not self.recheck:
            self._known.load()
        todo = []
        for task in tasks:
            rest, done = self._known.sift(task)
            todo += [rest] if rest else []
            if done.reports:
                self._done(task.without({to.label for to in rest.targets}) if rest else task, done)
        self._known.forget()
        return todo

    def _without_runs(self, tasks: Sequence[Task]) -> Iterator[RunReport]:
        """A failure for each location whose tasks had neither a run nor an error."""
        from bridges.sources.selection import no_runs, none_selected

        for location, select in dict.fromkeys(map(_selection, tasks)):
            if (location, select) not in self._read:
                error = none_selected(location) if select else no_runs(location)
                yield from (unread(error, location, to) for to in self.config.targets)

    def _done(self, task: Task, done: Done) -> None:
        if done.reports or done.left_out:
            self._read.add(_selection(task))
        if task.is_first:  # other tasks read the same runs again
            self.left_out += len(done.left_out)
            for source, why in done.left_out:
                self.on_left_out(source, why)
        self._report(done.reports)
        if task.targets:  # empty: a part of a task that continues
            self.on_task(task)

    def _report(self, reports: Iterable[RunReport]) -> None:
        for report in reports:
            self.on_report(CONFIG_KEYS.findings(report))


def _selection(task: Task) -> tuple[str, tuple[str, ...]]:
    """The location of a task, and the patterns of its runs."""
    return task.source.location, task.source.select


def migrate(
    config: str | PathLike[str] | MigrationConfig,
    *,
    dry_run: bool = False,
    recheck: bool = False,
    engine: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    patience: int | None = None,
    on_report: Callable[[RunReport], None] = lambda report: None,
    progress: bool | None = None,
) -> BatchReport:
    """Export the runs of a config (a YAML or TOML file, or the result of `load`) to its targets.

    A run is `unchanged` without being read if its files and settings are unchanged since its last
    verification; `recheck` reads and compares all runs again. `engine`, `workers`, `scheduler` and
    `patience` override the config. `on_report` gets the report of each run and target. `progress`
    shows a line of progress (None: only in a notebook). The local engine spawns processes: call it
    under `if __name__ == "__main__":`. Raises ConfigError and MissingDependencyError; failures of
    single runs are in the report.
    """
    reports: list[RunReport] = []

    def keep(report: RunReport) -> None:
        reports.append(PARAMETERS.findings(report))
        line.report(report)
        on_report(reports[-1])

    with PARAMETERS.errors(), Progress(progress) as line:
        read = config if isinstance(config, MigrationConfig) else load(fspath(config))
        chosen = read.engine.chosen(
            kind=engine, workers=workers, scheduler=scheduler, patience=patience
        )
        started = read.model_copy(update={"engine": chosen})
        Migration(started, dry_run, recheck, line.plan, line.task, on_report=keep).run()
    return BatchReport(tuple(reports))
