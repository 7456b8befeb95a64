"""The commands: parse the arguments, call the library, and set the exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from bridges.cli.command import INTERRUPTED, Command
from bridges.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from bridges.exporters.base import Exporter
    from bridges.pipeline.export_run import RunAction
    from bridges.pipeline.options import ExportOptions
    from bridges.report import RunReport
    from bridges.stream.model import Run

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
LOOKING = ("diff", "explain", "ls", "report", "view")  # in bridges.cli.looking
SECTIONS = {  # of `bridge --help`
    "Look at runs": ("inspect", "ls", "diff", "report", "explain"),
    "Write runs into trackers": ("export", "verify", "view"),
    "Migrate many runs": ("init", "migrate", "schema"),
    "Set up": ("sources", "targets", "completion"),
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `bridge` with arguments (default: `sys.argv`). Returns the exit code."""
    _use_any_encoding()
    try:
        code = app.main(arguments, prog_name="bridge", standalone_mode=False)
        return int(code or 0)
    except click.ClickException as error:
        from bridges.cli.console import printable

        click.echo(printable(_shown(error), keep="\n\t"), err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BridgeError as error:
        from bridges.cli.console import print_error

        for problem in getattr(error, "problems", (str(error),)):
            print_error(problem)
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:  # stdout was closed, as by `| head`
        sys.stderr.close()
        return 1


def _shown(error: click.ClickException) -> str:
    """The error message as click prints it."""
    shown = io.StringIO()
    error.show(shown)
    return shown.getvalue().rstrip("\n")


def _use_any_encoding() -> None:
    """Escape characters outside the terminal's encoding instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _no_color(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given or os.environ.get("NO_COLOR"):
        context.color = False
        os.environ["NO_COLOR"] = "1"  # read by rich


def _print_version(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given and not context.resilient_parsing:
        from bridges.cli.version import version_text

        click.echo(version_text())
        context.exit()


class Commands(click.Group):
    """The group of all commands; those for looking are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted({*self.commands, *LOOKING})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name in LOOKING and cmd_name not in self.commands:
            from bridges.cli.looking import COMMANDS

            for command in COMMANDS:
                self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summary of each command, by section."""
        width = max(map(len, self.list_commands(ctx)))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                found = ((name, self.get_command(ctx, name)) for name in names)
                formatter.write_dl(
                    [
                        (name.ljust(width), each.get_short_help_str(200))
                        for name, each in found
                        if each
                    ]
                )


@click.group(cls=Commands, context_settings=CONTEXT)
@click.option(
    "--no-color",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_no_color,
    help="Print without colors, as with $NO_COLOR.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of bridge and of the installed trackers, and exit.",
)
def app() -> None:
    """Move training histories into experiment trackers, exactly and verified.

    \b
    Examples:
      bridge inspect outputs/
      bridge export outputs/ --to tensorboard
      bridge verify outputs/ --to tensorboard

    A SOURCE is a directory, a file, a URL (s3://, hf://, …), a pattern, or `-` for standard input:
    histories of Hugging Face's Trainer (trainer_state.json), MLflow stores (mlruns, a database,
    mlflow+https://HOST), W&B runs (wandb, wandb://ENTITY/PROJECT), TensorBoard event files, and
    tables of loggers. A directory yields every run once.

    \b
    Exit codes:
      0    all runs are complete in the target
      1    a run failed or lost data
      2    bad usage, or nothing to read at a location
      130  interrupted
    """


@app.command(cls=Command, short_help="Write runs into targets, and read every point back.")
def export(
    sources: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool, **options: Any
) -> int:
    """Write runs into TARGETs as the Trainer callback would, and read every point back.

    Rerunning is safe: unchanged runs are skipped and longer histories only gain their new rows.

    \b
    Examples:
      bridge export outputs/ --to tensorboard
      bridge export outputs/ --to mlflow --tracking-uri http://localhost:5000
      bridge export runs/ --to wandb --mode online --project old-runs
      bridge export runs/ --to tensorboard,mlflow --dry-run
      bridge export outputs/ --to tensorboard --follow
      bridge export mlruns/ --to mlflow --tracking-uri sqlite:///moved.db
      curl -s https://…/trainer_state.json | bridge export - --to tensorboard
    """
    from bridges.pipeline.export_run import export_run

    pace = {name: options.pop(name) for name in ("interval", "idle_timeout")}
    given = {name: seconds for name, seconds in pace.items() if seconds is not None}
    if options.pop("follow"):
        from bridges.cli.follow import follow

        return follow(sources, *_prepare(sources, options), given, as_json, quiet, verbose)
    if given:
        raise ConfigError(f"--{min(given).replace('_', '-')} is for --follow only")
    return _transfer(export_run, sources, as_json, quiet, verbose, options)


@app.command(cls=Command, short_help="Compare the runs in targets with their sources.")
def verify(
    sources: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool, **options: Any
) -> int:
    """Compare the runs in TARGETs with their sources, point by point; nothing is written.

    Give the same options as to `bridge export`.

    \b
    Example:
      bridge verify outputs/ --to tensorboard --logdir tb
    """
    from bridges.pipeline.export_run import verify_run

    return _transfer(verify_run, sources, as_json, quiet, verbose, options)


def _transfer(
    action: RunAction,
    sources: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    options: dict[str, Any],
) -> int:
    from bridges.cli import console
    from bridges.cli.signals import interrupts
    from bridges.pipeline.batch import for_each_run
    from bridges.pipeline.export_run import verify_run

    is_check = action is verify_run
    exporters, chosen = _prepare(sources, options)
    lines = console.RunLines(verbose, is_check=is_check)
    shown: list[RunReport] = []
    found: list[str] = []
    progress = console.Progress(len(sources) * len(exporters), quiet)

    def on_found(run: Run) -> None:
        found.append(run.source)
        progress.total = max(progress.total, len(found) * len(exporters))

    def on_report(report: RunReport) -> None:
        progress.advance()
        shown.append(report)
        if not as_json and (not quiet or report.failed):
            progress.echo(lines.of(report))

    try:
        with interrupts(), progress:
            for_each_run(action, sources, exporters, chosen, progress.phase, on_report, on_found)
    except KeyboardInterrupt:
        _print_end(shown, exporters, as_json, quiet, is_check)
        raise
    return _print_end(shown, exporters, as_json, quiet, is_check)


def _print_end(
    shown: Sequence[RunReport],
    exporters: Sequence[Exporter],
    as_json: bool,
    quiet: bool,
    is_check: bool,
) -> int:
    """Print the totals of these runs. Returns the exit code."""
    from bridges.cli import console
    from bridges.report import BatchReport

    report = BatchReport(tuple(shown))
    if as_json:
        console.print_json(report.as_dict())
    elif not quiet:
        console.print_end(report, exporters, is_check=is_check)
    return report.exit_code


def _prepare(
    sources: tuple[str, ...], options: dict[str, Any]
) -> tuple[list[Exporter], ExportOptions]:
    """The exporters and options of a command. Raises ConfigError."""
    from bridges.cli.options import pairs
    from bridges.exporters.factory import make_exporters
    from bridges.pipeline.options import CHOICES, ExportOptions

    targets, texts = options.pop("targets"), pairs("--option", options.pop("plug_in_options"))
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "tags" in given:
        given["tags"] = pairs("--tag", given["tags"])
    own = {name: given.pop(name) for name in [*given] if name not in CHOICES}
    _check_flags(own, targets)
    return make_exporters(targets, own, texts), ExportOptions.of(given)


def _check_flags(flags: Iterable[str], targets: Sequence[str]) -> None:
    """Raises ConfigError for an option of another target."""
    from bridges import plugins
    from bridges.exporters.factory import option_names

    taken = {name for target in targets for name in option_names(target)}
    for flag in flags:
        if flag not in taken:
            names = [each.name for each in plugins.built_in("exporters")]
            own = [name for name in names if flag in option_names(name)]
            raise ConfigError(
                f"--{flag.replace('_', '-')} is an option of {' and '.join(own)}, "
                f"and --to names {', '.join(targets)}. "
                "Leave it out, or add the target to --to."
            )


@app.command(cls=Command, short_help="Show runs: rows, steps, epochs, clock, metrics, findings.")
def inspect(
    sources: tuple[str, ...],
    html: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **choices: object,
) -> int:
    """Show runs as bridge reads them: rows, steps, epochs, clock, metrics, findings.

    For a directory, shows a tree of its searches, runs and forks, with the input files of each run.
    If it has several runs, -v adds a page for each. --html writes a page with their charts.

    \b
    Examples:
      bridge inspect outputs/trainer_state.json
      bridge inspect outputs/
      bridge inspect outputs/ -v
      bridge inspect outputs/trainer_state.json --html run.html
      bridge inspect checkpoint-*/trainer_state.json --json
    """
    from bridges.cli.inspect import inspect as show
    from bridges.pipeline.options import ExportOptions

    return show(sources, ExportOptions.of(choices), html, as_json, quiet, verbose)


@app.command(cls=Command, short_help="Write the runs of a config file into its targets.")
def migrate(
    config: str,
    dry_run: bool | None,
    recheck: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    report: str | None,
    html: str | None,
    **engine: Any,
) -> int:
    """Move the runs of a CONFIG file (YAML or TOML) into its targets, with several workers.

    Rerun the same command to export only what is missing. Ctrl-C finishes the runs in progress,
    then prints a summary.

    \b
    Examples:
      bridge migrate configs/fan-out.yaml --dry-run
      bridge migrate configs/fan-out.yaml --workers 4
      bridge migrate configs/dask-object-store.yaml --scheduler tcp://head:8786
    """
    from bridges.migration.executors import start_ahead

    if engine["kind"] != "dask":
        start_ahead()
    from bridges.cli.migrate import MigrationView
    from bridges.cli.migrate import migrate as carry_out

    view = MigrationView(as_json, quiet, verbose, report, html, config)
    return carry_out(config, engine, bool(dry_run), recheck, view)


@app.command(cls=Command)
def init(
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    output: str,
    force: bool,
    quiet: bool,
    **choices: object,
) -> int:
    """Write a migration config for the runs of each SOURCE.

    Its comments name the groups and runs found, clashing names and differing params. `bridge
    migrate` runs it as it is.

    \b
    Example:
      bridge init outputs/ --to tensorboard,mlflow -o migration.yaml
    """
    from bridges.cli.init import init as write
    from bridges.pipeline.options import ExportOptions

    return write(sources, ExportOptions.of(choices), targets, output, force, quiet)


@app.command(short_help="List the installed exporters and sources.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def targets(as_json: bool) -> int:
    """List the installed exporters and sources, plug-ins included.

    \b
    Example:
      bridge targets --json
    """
    from bridges import plugins
    from bridges.cli.console import print_json, print_plug_ins

    kinds = ("exporters", "sources")
    listed = {kind: [*plugins.built_in(kind), *plugins.third_party(kind)] for kind in kinds}
    if as_json:
        print_json(
            {kind: [entry._asdict() for entry in entries] for kind, entries in listed.items()}
        )
    else:
        print_plug_ins(listed)
    return 0


@app.command(short_help="List the sources, and the formats of tables.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def sources(as_json: bool) -> int:
    """List the sources, and the formats of tables with the files that each of them claims.

    \b
    Example:
      bridge sources --json
    """
    from bridges.cli.sources import print_sources

    return print_sources(as_json)


@app.command(short_help="Print the JSON Schema of migration configs.")
def schema() -> int:
    """Print the JSON Schema of migration configs, for completion and checks in editors.

    \b
    Example:
      bridge schema > migration.schema.json
    """
    from bridges.migration.config.schema import schema_text

    click.echo(schema_text(), nl=False)
    return 0


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the completion script of a shell.

    \b
    Examples:
      bridge completion bash >> ~/.bashrc
      bridge completion fish > ~/.config/fish/completions/bridge.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    for command in ("bridge", "bridges"):
        click.echo(kind(app, {}, command, "_BRIDGE_COMPLETE").source())
    return 0
