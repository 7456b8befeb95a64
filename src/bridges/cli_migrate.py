"""`bridge migrate`: how it is started, shown and stopped; `migration` does the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import click

from bridges import console
from bridges.cli_follow import terminated_as_interrupted
from bridges.migration.config_file import load
from bridges.migration.html_report import HtmlReport
from bridges.migration.migrate import Migration
from bridges.migration.report_lines import ReportLines
from bridges.migration.summary import print_summary
from bridges.migration.tasks import Task
from bridges.report import RunReport, Totals


def migrate(path: str, engine: Mapping[str, Any], dry_run: bool, shown: Shown) -> int:
    """Carry out a config, its engine as the command line says; the exit code. Raises ConfigError.

    Where that is interrupted, what was done is told before KeyboardInterrupt is raised.
    """
    config = load(path)
    config = config.model_copy(update={"engine": config.engine.chosen(**engine)})
    migration = Migration(
        config,
        dry_run,
        on_plan=shown.plan,
        on_task=shown.task,
        on_report=shown.report,
        on_wait=shown.wait,
    )
    shown.progress.phase(path, "planning")
    try:
        with shown, terminated_as_interrupted():
            migration.run()
    finally:
        shown.end(migration.left_out)
    return shown.totals.exit_code


class Shown:
    """What is shown of a migration while it goes on and at its end; a context manager."""

    def __init__(
        self,
        as_json: bool,
        quiet: bool,
        verbose: bool,
        report: str | None = None,
        html: str | None = None,
        title: str = "",
    ) -> None:
        self.totals = Totals()
        self.progress = console.Progress(0, quiet)
        self._as_json, self._quiet, self._verbose = as_json, quiet, verbose
        self._files: list[ReportLines | HtmlReport] = [ReportLines(report)] if report else []
        self._files += [HtmlReport(html, title)] if html else []
        self._all: list[dict[str, Any]] = []
        self._stack = ExitStack()
        self._began = time.monotonic()

    def __enter__(self) -> Shown:
        for file in self._files:
            self._stack.enter_context(file)
        self._stack.enter_context(self.progress)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def plan(self, tasks: int) -> None:
        """So many tasks there are."""
        self.progress.total = tasks

    def task(self, task: Task) -> None:
        """One of them is done."""
        self.progress.phase(task.location, "done with")
        self.progress.advance()

    def wait(self, label: str, why: str, seconds: float) -> None:
        """A target does not answer, and is waited for."""
        if not self._quiet:
            self.progress.warn(
                f"{label} does not answer; it is waited for, up to {seconds:.0f} s: {why}"
            )

    def report(self, report: RunReport) -> None:
        """A run and target is done."""
        self.totals.add(report)
        for file in self._files:
            file.add(report)
        if self._as_json:
            self._all.append(report.as_dict())
        elif report.failed or (not self._quiet and (self._verbose or report.status == "planned")):
            self.progress.echo(console.format_run(report, self._verbose))

    def end(self, left_out: int) -> None:
        """Tell of all of it."""
        if self._as_json:
            totals = {**self.totals.totals, "left_out": left_out}
            console.print_json({"runs": self._all, "totals": totals})
        elif not self._quiet:
            print_summary(self.totals, time.monotonic() - self._began)
            if left_out:
                click.echo(f"{console.many(left_out, 'run')} left out by the filters.")
