"""The commands for looking at runs and targets: they write nothing into a tracker."""

from __future__ import annotations

import click

from bridges.cli.command import Command
from bridges.errors import ConfigError


@click.command(cls=Command)
def ls(
    sources: tuple[str, ...],
    columns: tuple[str, ...],
    sort: str | None,
    as_json: bool,
    as_csv: bool,
    quiet: bool,
    **choices: object,
) -> int:
    """List runs, one line each.

    A line has rows, steps, last and best values of the main metrics, and differing params. If the
    output is not a terminal, params need --columns name,params, --csv or --json.

    The best value is the minimum if the name of the metric has a word such as loss, error,
    perplexity, wer, cer, mae or rmse, else the maximum; greater_is_better decides for
    metric_for_best_model.

    \b
    Examples:
      bridge ls outputs/ --sort eval_loss:best
      bridge ls outputs/ --columns name,eval_f1:best,params.learning_rate --csv
    """
    from bridges.cli.ls import list_runs
    from bridges.pipeline.options import ExportOptions

    if as_json and as_csv:
        raise ConfigError("--json and --csv are two formats: give one of them")
    names = [name for each in columns for name in each.split(",") if name]
    format = "json" if as_json else "csv" if as_csv else ""
    return list_runs(sources, ExportOptions.of(choices), names, sort or "", format, quiet)


@click.command(cls=Command)
def diff(
    a: str,
    b: str,
    ignored: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **choices: object,
) -> int:
    """Compare two runs.

    Shows the differing params, the metrics side by side, and the first different row.

    Exit codes: 0 params and rows are equal, 1 they differ, 2 a run cannot be read.

    \b
    Example:
      bridge diff outputs/run-1 outputs/run-2 --ignore '*_runtime'
    """
    from bridges.cli.diff import diff as compare
    from bridges.pipeline.options import ExportOptions

    return compare((a, b), ExportOptions.of(choices), ignored, as_json, quiet, verbose)


@click.command(cls=Command)
def report(
    sources: tuple[str, ...], output: str, as_json: bool, quiet: bool, **choices: object
) -> int:
    """Write an HTML page of charts.

    Each metric has a chart with the lines of all runs: zoom, log scale, smoothing, step, epoch or
    time as the x-axis, values under the mouse, and a table to select runs. The page is one file and
    needs no network.

    \b
    Example:
      bridge report outputs/ -o report.html
    """
    from bridges.cli.report import report as write
    from bridges.pipeline.options import ExportOptions

    return write(sources, ExportOptions.of(choices), output, as_json, quiet)


@click.command(cls=Command)
def explain(codes: tuple[str, ...], as_json: bool) -> int:
    """Explain finding codes.

    Prints the meaning and remedy of each CODE. Without a code, lists all.

    \b
    Example:
      bridge explain clock-synthetic
    """
    from bridges.cli.explain import explain as show

    return show(codes, as_json)


@click.command(cls=Command)
def view(targets: tuple[str, ...], port: int | None, dry_run: bool) -> int:
    """Start TensorBoard, MLflow, Trackio or the browser for each TARGET.

    A TARGET is a directory of event files, an MLflow database, directory or URI, a directory or
    project file of Trackio, an HTML page or a URL. Without any: runs, mlflow.db and mlruns, if they
    are here. Ctrl-C ends the viewers.

    \b
    Examples:
      bridge view runs
      bridge view sqlite:///mlflow.db --port 5001
      bridge view report.html
    """
    from bridges.cli.view import view as start

    return start(targets, port, dry_run)


COMMANDS = (ls, diff, report, explain, view)
