"""The options that several commands share, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

_KIND = "exporters"
F = TypeVar("F", bound=Callable[..., Any])
MOST_JOBS = 256
# options that belong to one target, by the names that its exporter takes
TARGET_OPTIONS = (
    *("logdir", "tracking_uri", "experiment", "mlflow_writer", "force"),
    *("project", "entity", "job_type", "mode", "wandb_dir", "wandb_step", "wandb_writer"),
)


def _paths(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="file")]


def _directories(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    return [CompletionItem(begun, type="dir")]


def _targets(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    from bridges import plugins

    names = (each.name for find in (plugins.built_in, plugins.third_party) for each in find(_KIND))
    return [name for name in names if name.startswith(begun)]


def _clocks(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    from bridges.stream.clock import CLOCKS  # slow to import

    return [name for name in CLOCKS if name.startswith(begun)]


def reading(command: F) -> F:
    """The arguments of every command that reads runs."""
    for option in (
        click.option(
            "-v", "--verbose", is_flag=True, help="Show everything, every finding in full."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Show errors only."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option("--source", metavar="NAME", help="Read with this source (bridge targets)."),
        click.option("--redact-home", is_flag=True, help="Mask home directories in params, too."),
        click.option(
            "--fill-from-events",
            is_flag=True,
            help="Add rows of an ended training that only its event files hold, where they fit.",
        ),
        click.option(
            "--max-unpacked",
            type=click.IntRange(1),
            metavar="BYTES",
            help="What a gzip file may unpack to [default: 100 times its size, or 64 MiB].",
        ),
        click.option(
            "--salvage", is_flag=True, help="Read a truncated file up to its last whole row."
        ),
        click.argument(
            "sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=_paths
        ),
    ):
        command = option(command)
    return command


def targeting(command: F) -> F:
    """The options of every command that looks into a target."""
    for option in (
        click.option(
            "-o",
            "--option",
            "plug_in_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="An option of a target from a plug-in.",
        ),
        click.option(
            "--experiment",
            metavar="NAME",
            help="mlflow: experiment [default: $MLFLOW_EXPERIMENT_NAME, else bridges].",
        ),
        click.option(
            "--tracking-uri",
            metavar="URI",
            help="mlflow: sqlite:///PATH, postgresql://…, http(s)://… or any other that mlflow"
            " knows [default: $MLFLOW_TRACKING_URI, else mlflow.db here].",
        ),
        click.option(
            "--mlflow-writer",
            type=click.Choice(["auto", "direct", "client"]),
            help="mlflow: straight into the database, or by the public API [default: auto].",
        ),
        click.option(
            "--force",
            is_flag=True,
            default=None,
            help="mlflow: write a run again that was deleted there.",
        ),
        click.option(
            "--wandb-writer",
            type=click.Choice(["auto", "direct", "sdk"]),
            help="wandb: write the files ourselves, or by the public API [default: auto].",
        ),
        click.option(
            "--wandb-step",
            type=click.Choice(["row", "global_step"]),
            help="wandb: `_step` counts rows, or is the global step and merges the rows of one"
            " [default: row].",
        ),
        click.option(
            "--wandb-dir",
            metavar="DIR",
            shell_complete=_directories,
            help="wandb: offline runs go to DIR/wandb [default: here].",
        ),
        click.option(
            "--mode",
            type=click.Choice(["offline", "online"]),
            help="wandb: files for `wandb sync`, or upload and check [default: offline].",
        ),
        click.option(
            "--jobs",
            type=click.IntRange(1, MOST_JOBS),
            default=4,
            show_default=True,
            metavar="N",
            help="wandb online: runs at the same time.",
        ),
        click.option("--job-type", metavar="NAME", help="wandb: job type of the runs."),
        click.option("--entity", metavar="NAME", help="wandb: entity [default: $WANDB_ENTITY]."),
        click.option(
            "--project",
            metavar="NAME",
            help="wandb: project [default: $WANDB_PROJECT, else huggingface].",
        ),
        click.option(
            "--logdir",
            metavar="DIR",
            shell_complete=_directories,
            help="tensorboard: where runs go [default: runs].",
        ),
        click.option(
            "--callback-version",
            metavar="X.Y",
            help="Name metrics as the callback of this transformers release [default: 5.24].",
        ),
        click.option(
            "--duplicates",
            default="all",
            show_default=True,
            type=click.Choice(["all", "first", "last", "error"]),
            help="What to keep of one metric logged twice at one step.",
        ),
        click.option(
            "--naming",
            default="live",
            show_default=True,
            type=click.Choice(["live", "raw"]),
            help="Name metrics as the live callback does, or by the keys of the file.",
        ),
        click.option(
            "--clock",
            metavar="SOURCE",
            shell_complete=_clocks,
            help="Where times come from: events, elapsed, log, mtimes, duration or synthetic"
            " [default: the best that there is].",
        ),
        click.option(
            "--x-axis",
            default="step",
            show_default=True,
            type=click.Choice(["step", "epoch"]),
            help="epoch: the step of a point is round(epoch × 1000).",
        ),
        click.option(
            "--params",
            multiple=True,
            metavar="PATTERN",
            help="Write only params that match, such as 'learning_rate' or 'lora_*'; may be"
            " repeated.",
        ),
        click.option("--group", metavar="NAME", help="Put the runs into this group."),
        click.option(
            "--run-name",
            metavar="NAME",
            help="Name the run [default: run_name of its arguments, else its directory].",
        ),
        click.option(
            "--to",
            "targets",
            multiple=True,
            required=True,
            metavar="TARGET",
            shell_complete=_targets,
            help="tensorboard, mlflow, wandb, or a plug-in (bridge targets); may be repeated.",
        ),
    ):
        command = option(command)
    return command


def following(command: F) -> F:
    """The options of an export that watches runs which still go on."""
    for option in (
        click.option(
            "--idle-timeout",
            type=float,
            metavar="SECONDS",
            help="--follow: stop when nothing changed for so long; 0 never [default: 14400].",
        ),
        click.option(
            "--interval",
            type=float,
            metavar="SECONDS",
            help="--follow: how often to look for new rows [default: 10].",
        ),
        click.option(
            "--follow", is_flag=True, help="Go on while runs do, and append their new rows."
        ),
    ):
        command = option(command)
    return command


def migrating(command: F) -> F:
    """The arguments of `bridge migrate`; those that its engine takes have the engine's names."""
    for option in (
        click.option(
            "--html",
            metavar="FILE",
            shell_complete=_paths,
            help="Write a page of all runs, to look at.",
        ),
        click.option(
            "--report",
            metavar="FILE",
            shell_complete=_paths,
            help="Write JSON lines, one for each run as it is done.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="Show each run as it is done."),
        click.option("-q", "--quiet", is_flag=True, help="Show errors only."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option("--scheduler", metavar="ADDRESS", help="dask: such as tcp://HOST:8786."),
        click.option(
            "--engine",
            "kind",
            type=click.Choice(["local", "dask"]),
            help="Processes here, or a Dask cluster [default: what the config says].",
        ),
        click.option(
            "--workers", type=click.IntRange(1), metavar="N", help="How many processes here."
        ),
        click.option(
            "--recheck",
            is_flag=True,
            help="Read and compare also runs whose files and settings are those of last time.",
        ),
        click.option(
            "--patience",
            type=click.IntRange(0),
            metavar="SECONDS",
            help="How long to wait for a target that stops answering [default: 300].",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Show what would be written, and write nothing."
        ),
        click.argument("config", type=click.Path()),
    ):
        command = option(command)
    return command
