"""The command `bridge migrate`: starts and stops a migration and prints its reports."""

from __future__ import annotations

import gc
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType

import click

from bridges.cli import console
from bridges.cli.migrate_screen import JsonRuns, MigrationProgress
from bridges.cli.migrate_summary import print_summary
from bridges.cli.plan_table import PlanTable
from bridges.cli.signals import Interrupts, interrupts
from bridges.migration.config.file import load
from bridges.migration.config.targets import TargetSpec
from bridges.migration.migrate import Migration
from bridges.migration.reports.html import HtmlReport
from bridges.migration.reports.json_lines import ReportLines
from bridges.report import RunReport, Totals


def migrate(
    path: str,
    engine: Mapping[str, str | int | None],
    dry_run: bool,
    recheck: bool,
    view: MigrationView,
) -> int:
    """Run a config; `engine` overrides its engine. Returns the exit code. Raises ConfigError.

    On interrupt, prints the finished runs, then raises KeyboardInterrupt.
    """
    gc.freeze()  # imported objects stay alive, and scanning them is slow
    config = load(path)
    config = config.model_copy(update={"engine": config.engine.chosen(**engine)})
    migration = Migration(
        config,
        dry_run,
        recheck,
        on_plan=view.progress.plan,
        on_task=view.progress.task,
        on_report=view.report,
        on_left_out=view.left_out,
        on_wait=view.wait,
    )
    view.begin(path, [target.label for target in config.targets] if dry_run else [])
    with interrupts() as view.interrupts:
        try:
            with view:
                migration.run()
        finally:
            with view.interrupts.held():
                view.end(migration.left_out, config.targets)
    return view.totals.exit_code


class MigrationView:
    """A context manager that prints a migration: progress, reports and a summary."""

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
        self.interrupts = Interrupts()
        # a live line would break JSON on a terminal, which shows the progress anyway
        self.progress = MigrationProgress(quiet or (as_json and sys.stdout.isatty()))
        self._json = JsonRuns() if as_json else None
        self._quiet, self._verbose = quiet, verbose
        self._files: list[ReportLines | HtmlReport] = [ReportLines(report)] if report else []
        self._files += [HtmlReport(html, title)] if html else []
        self._lines = console.RunLines(verbose)
        self._written: dict[str, _Written] = {}  # by target
        self._table: PlanTable | None = None
        self._stack = ExitStack()
        self._began = time.monotonic()

    def __enter__(self) -> MigrationView:
        for file in self._files:
            self._stack.enter_context(file)
        self._stack.enter_context(self.progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def begin(self, path: str, planned: Sequence[str]) -> None:
        """Start; `planned` are the labels of the targets in a dry run, otherwise empty."""
        self.progress.phase(path, "planning")
        if planned and not self._quiet and not self._json:
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            self._table = PlanTable(planned, width)

    def wait(self, label: str, why: str, seconds: float) -> None:
        """Warn about a target that does not answer."""
        if not self._quiet:
            self.progress.warn(f"{label} does not answer; waiting up to {seconds:g} s: {why}")

    def report(self, report: RunReport) -> None:
        """Print the report of a run and target."""
        with self.interrupts.held():
            self._print(report)

    def _print(self, report: RunReport) -> None:
        self.totals.add(report)
        if report.location:
            self._written.setdefault(report.target, _Written()).add(report)
        self.progress.report(report)
        for file in self._files:
            file.add(report)
        if self._json:
            self._json.add(report.as_dict())
        elif self._table:
            for line in self._table.lines(report, self._verbose):
                self.progress.echo(line)
        elif report.failed or (self._verbose and not self._quiet):
            self.progress.echo(self._lines.of(report))

    def left_out(self, source: str, why: str) -> None:
        """Print a run that the filters exclude."""
        if self._verbose and not (self._quiet or self._json):
            mark = click.style(f"- {'left out':<9} ", dim=True)
            self.progress.echo(f"{mark}{console.printable(f'{source}: {why}')}")

    def end(self, left_out: int, targets: Sequence[TargetSpec] = ()) -> None:
        """Print the summary, and the next commands."""
        if self._json:
            self._json.end({**self.totals.totals, "left_out": left_out})
        elif not self._quiet:
            if self._table:
                click.echo()
            print_summary(self.totals, time.monotonic() - self._began)
            if left_out:
                click.echo(f"{console.count_noun(left_out, 'run')} left out by the filters.")
            console.print_explain(self.totals.findings)
            for file in self._files:
                click.echo(f"Report: {console.printable(file.path)}")
            for target in targets:
                if written := self._written.get(target.label):
                    console.print_next(target.exporter(), written.locations, written.longest)


class _Written:
    """The first and the last location of a target's runs, and the points of its longest metric."""

    def __init__(self) -> None:
        self.locations: list[str] = []
        self.longest = 0

    def add(self, report: RunReport) -> None:
        """Add a run. For an unread run, its row count stands for its longest metric."""
        assert report.location
        self.locations[1:] = [report.location]
        self.longest = max(self.longest, report.longest or report.rows)
