"""`bridge migrate` and its Python twin: a config becomes tasks, an engine carries them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike, fspath

from bridges.migration.config import MigrationConfig
from bridges.migration.config_file import load
from bridges.migration.engine import Engine
from bridges.migration.tasks import Done, Task, plan
from bridges.report import BatchReport, RunReport


@dataclass
class Migration:
    """A migration that can be told of while it goes on.

    `on_plan` is told how many tasks there are, `on_task` of each that has ended, `on_report` of
    each run and target, `on_wait` of a target that does not answer: its label, how it failed, and
    for how many seconds it is waited for at most; `left_out` counts the runs that the config's
    filters leave out.
    """

    config: MigrationConfig
    dry_run: bool = False
    on_plan: Callable[[int], None] = lambda tasks: None
    on_task: Callable[[Task], None] = lambda task: None
    on_report: Callable[[RunReport], None] = lambda report: None
    on_wait: Callable[[str, str, float], None] = lambda label, why, seconds: None
    left_out: int = field(default=0, init=False)

    def run(self) -> None:
        """Do it. Raises ConfigError and MissingDependencyError, and KeyboardInterrupt after what
        was begun has ended.
        """
        tasks, failed = plan(self.config)
        self.on_plan(len(tasks))
        for report in failed:
            self.on_report(report)
        Engine(self.config.engine, self.dry_run, self._done, self.on_wait).run(tasks)

    def _done(self, task: Task, done: Done) -> None:
        if task.is_first:  # the others read the same runs again
            self.left_out += done.left_out
        for report in done.reports:
            self.on_report(report)
        if task.targets:  # not all of them are waited for
            self.on_task(task)


def migrate(
    config: str | PathLike[str] | MigrationConfig,
    *,
    dry_run: bool = False,
    engine: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    patience: int | None = None,
    on_report: Callable[[RunReport], None] = lambda report: None,
) -> BatchReport:
    """Move the runs of a config (a YAML or TOML file, or what `load` makes of it) to its targets.

    `engine`, `workers`, `scheduler` and `patience` are taken instead of those of the config;
    `on_report` is told of each run and target as it is done. The processes of the local engine are
    spawned: call it under `if __name__ == "__main__":`. Raises ConfigError and
    MissingDependencyError; what fails with a run is in the report.
    """
    read = config if isinstance(config, MigrationConfig) else load(fspath(config))
    chosen = read.model_copy(
        update={"engine": read.engine.chosen(engine, workers, scheduler, patience)}
    )
    reports: list[RunReport] = []

    def keep(report: RunReport) -> None:
        reports.append(report)
        on_report(report)

    Migration(chosen, dry_run, on_report=keep).run()
    return BatchReport(tuple(reports))
