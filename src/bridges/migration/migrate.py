"""`bridge migrate` and its Python twin: a config becomes tasks, an engine carries them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath

from bridges.migration.config import MigrationConfig
from bridges.migration.config_file import load
from bridges.migration.engine import Engine
from bridges.migration.memory import Memory
from bridges.migration.tasks import Done, Task, plan
from bridges.report import BatchReport, RunReport


@dataclass
class Migration:
    """A migration that can be told of while it goes on.

    `on_plan` is told of the tasks, `on_task` of each that has ended, `on_report` of each run and
    target, `on_left_out` of each run that the config's filters leave out: its source, and why
    (`left_out` counts these), `on_wait` of a target that does not answer: its label, how it failed,
    and for how many seconds it is waited for at most. To `recheck` is to read also those runs of
    which the target remembers that it has them.
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

    def run(self) -> None:
        """Do it. Raises ConfigError and MissingDependencyError, and KeyboardInterrupt after what
        was begun has ended.
        """
        self._memory = Memory(self.config.targets, self.dry_run)
        tasks, failed = plan(self.config, self._memory.settings)
        self.on_plan(tasks)
        for report in failed:
            self.on_report(report)
        engine = Engine(self.config.engine, self.dry_run, self._done, self.on_wait)
        engine.run(self._unknown(tasks))

    def _unknown(self, tasks: Sequence[Task]) -> list[Task]:
        """What is to be done of these tasks; the rest is told."""
        if not self.recheck:
            self._memory.load()
        todo = []
        for task in tasks:
            rest, done = self._memory.sift(task)
            todo += [rest] if rest else []
            if done.reports:
                self._done(task.without({to.label for to in rest.targets}) if rest else task, done)
        self._memory.forget()
        return todo

    def _done(self, task: Task, done: Done) -> None:
        if task.is_first:  # the others read the same runs again
            self.left_out += len(done.left_out)
            for source, why in done.left_out:
                self.on_left_out(source, why)
        for report in done.reports:
            self.on_report(report)
        if task.targets:  # not all of them are waited for
            self.on_task(task)


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
) -> BatchReport:
    """Move the runs of a config (a YAML or TOML file, or what `load` makes of it) to its targets.

    A run of which a target remembers that it was made of the same files, under the same config, and
    compared, is `unchanged` without being read; `recheck` reads and compares all of them again.
    `engine`, `workers`, `scheduler` and `patience` are taken instead of those of the config;
    `on_report` is told of each run and target as it is done. The processes of the local engine are
    spawned: call it under `if __name__ == "__main__":`. Raises ConfigError and
    MissingDependencyError; what fails with a run is in the report.
    """
    read = config if isinstance(config, MigrationConfig) else load(fspath(config))
    chosen = read.engine.chosen(
        kind=engine, workers=workers, scheduler=scheduler, patience=patience
    )
    reports: list[RunReport] = []

    def keep(report: RunReport) -> None:
        reports.append(report)
        on_report(report)

    started = read.model_copy(update={"engine": chosen})
    Migration(started, dry_run, recheck, on_report=keep).run()
    return BatchReport(tuple(reports))
