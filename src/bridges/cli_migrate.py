"""`bridge migrate`: how it is started, shown and stopped; `migration` does the rest."""

from __future__ import annotations

from collections.abc import Sequence

import click

from bridges import console
from bridges.cli_follow import terminated_as_interrupted
from bridges.migration.config_file import load
from bridges.migration.migrate import Migration
from bridges.migration.tasks import Task
from bridges.report import BatchReport, RunReport


def migrate(
    path: str,
    *,
    dry_run: bool,
    engine: str | None,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Carry out a config; the exit code. Raises ConfigError.

    Where that is interrupted, what was done is told before KeyboardInterrupt is raised.
    """
    config = load(path)
    config = config.model_copy(update={"engine": config.engine.chosen(engine, workers, scheduler)})
    reports: list[RunReport] = []
    with console.Progress(0, quiet) as progress:
        migration = Migration(config, dry_run)

        def on_plan(tasks: int) -> None:
            progress.total = tasks

        def on_task(task: Task) -> None:
            progress.phase(task.location, "done with")
            progress.advance()

        def on_report(report: RunReport) -> None:
            reports.append(report)
            if not as_json and (report.failed or (verbose and not quiet)):
                progress.echo(console.format_run(report, verbose))

        migration.on_plan, migration.on_task, migration.on_report = on_plan, on_task, on_report
        progress.phase(path, "planning")
        try:
            with terminated_as_interrupted():
                migration.run()
        except KeyboardInterrupt:
            _tell(reports, migration.left_out, as_json, quiet)
            raise
    return _tell(reports, migration.left_out, as_json, quiet)


def _tell(reports: Sequence[RunReport], left_out: int, as_json: bool, quiet: bool) -> int:
    report = BatchReport(tuple(reports))
    if as_json:
        console.print_json(report.as_dict())
    elif not quiet:
        console.print_end(report, ())
        if left_out:
            click.echo(f"{console.many(left_out, 'run')} left out by the config's filters.")
    return report.exit_code
