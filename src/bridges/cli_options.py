"""The options that several commands share, as decorators. Most are made from the models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bridges.errors import ConfigError
from bridges.export_options import ExportOptions
from bridges.exporters.mlflow_options import MlflowOptions
from bridges.exporters.tensorboard_options import TensorBoardOptions
from bridges.exporters.wandb_options import WandbOptions
from bridges.option import Field, Options, described
from bridges.sources.base import ReadChoices
from bridges.stream.options import LayoutOptions

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]
TARGETS: dict[str, type[Options]] = {
    "tensorboard": TensorBoardOptions,
    "mlflow": MlflowOptions,
    "wandb": WandbOptions,
}


def pairs(flag: str, values: Sequence[str]) -> dict[str, str]:
    """The values of a repeated KEY=VALUE option. Raises ConfigError."""
    split = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise ConfigError(f"{flag} {value!r} is not of the form KEY=VALUE")
        split[key] = text
    return split


def _completing(kind: str | None) -> Callable[..., list[CompletionItem]] | None:
    if kind is None:
        return None
    return lambda context, parameter, begun: [CompletionItem(begun, type=kind)]


def _targets(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    from bridges import plugins

    known = [*plugins.built_in("exporters"), *plugins.third_party("exporters")]
    return [each.name for each in known if each.name.startswith(begun)]


PATHS = _completing("file")
PRINTED = (
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
    click.option("-q", "--quiet", is_flag=True, help="Show errors only."),
)


def reading(command: F) -> F:
    """The arguments of every command that reads runs."""
    return _with(
        command,
        *_made_of(ReadChoices),
        *_made_of(ExportOptions, only=("source",)),
        *PRINTED,
        click.option(
            "-v", "--verbose", is_flag=True, help="Show everything, every finding in full."
        ),
        click.argument(
            "sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=PATHS
        ),
    )


def targeting(command: F) -> F:
    """The options of every command that looks into a target."""
    return _with(
        command,
        click.option(
            "--to",
            "targets",
            multiple=True,
            required=True,
            metavar="TARGET",
            shell_complete=_targets,
            help="tensorboard, mlflow, wandb, or a plug-in (bridge targets); may be repeated.",
        ),
        *_made_of(ExportOptions, only=("run_name", "group")),
        *_made_of(LayoutOptions),
        *(option for name, model in TARGETS.items() for option in _made_of(model, name)),
        *_made_of(ExportOptions, only=("jobs",)),
        click.option(
            "-o",
            "--option",
            "plug_in_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="Option of a target from a plug-in; may be repeated.",
        ),
    )


def writing(command: F) -> F:
    """The options of a command that writes runs."""
    only = ("tags", "verify", "attach_source", "dry_run")
    return _with(command, *_made_of(ExportOptions, only=only))


def following(command: F) -> F:
    """The options of an export that watches runs which are still training."""
    return _with(
        command,
        click.option(
            "--follow", is_flag=True, help="Keep running and append new rows until training ends."
        ),
        click.option(
            "--interval",
            type=float,
            metavar="SECONDS",
            help="--follow: time between two looks for new rows.  [default: 10]",
        ),
        click.option(
            "--idle-timeout",
            type=float,
            metavar="SECONDS",
            help="--follow: stop if nothing changed for so long; 0 never.  [default: 14400]",
        ),
    )


def migrating(command: F) -> F:
    """The arguments of `bridge migrate`; those that its engine takes have the engine's names."""
    return _with(
        command,
        click.argument("config", type=click.Path()),
        *_made_of(ExportOptions, only=("dry_run",)),
        click.option(
            "--patience",
            type=click.IntRange(0),
            metavar="SECONDS",
            help="How long to wait for a target that stops answering.  [default: 300]",
        ),
        click.option(
            "--recheck",
            is_flag=True,
            help="Also read and compare runs whose files and settings have not changed.",
        ),
        click.option(
            "--workers", type=click.IntRange(1), metavar="N", help="Number of processes here."
        ),
        click.option(
            "--engine",
            "kind",
            type=click.Choice(["local", "dask"]),
            help="Processes here, or a Dask cluster.  [default: that of the config]",
        ),
        click.option("--scheduler", metavar="ADDRESS", help="dask: such as tcp://HOST:8786."),
        *PRINTED,
        click.option("-v", "--verbose", is_flag=True, help="Show each run as it is done."),
        click.option(
            "--report",
            metavar="FILE",
            shell_complete=PATHS,
            help="Write JSON lines, one for each run as it is done.",
        ),
        click.option(
            "--html", metavar="FILE", shell_complete=PATHS, help="Write an HTML report of all runs."
        ),
    )


def _with(command: F, *options: Decorator) -> F:
    """The command with these options, in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def _made_of(
    model: type[Options], target: str = "", only: Sequence[str] = ()
) -> Iterator[Decorator]:
    """The options of a model. One that is not given is None, or an empty tuple."""
    fields = {field.name: field for field in described(model)}
    for name in only or fields:
        field = fields[name]
        yield click.option(
            field.flag + (f"/--no-{field.name}" if field.default is True else ""),
            field.name,
            metavar=field.about.metavar,
            help=_help(field, target),
            shell_complete=_completing(field.about.completes),
            **_parameter(field),
        )


def _parameter(field: Field) -> dict[str, Any]:
    """How click parses the values of a field."""
    if field.choices:
        return {"type": click.Choice(field.choices)}
    if field.kind is int:
        return {"type": click.IntRange(field.about.at_least, field.about.at_most)}
    if field.kind is bool:
        return {"is_flag": True, "default": None}
    return {} if field.kind is str else {"multiple": True}


def _help(field: Field, target: str) -> str:
    text, default = field.about.help, field.about.unset or field.default
    if target:
        text = f"{target}: {text[0].lower()}{text[1:]}"
    if _parameter(field).get("multiple"):
        return f"{text[:-1]}; may be repeated."
    if default in (None, False):
        return text
    return f"{text}  [default: {'on' if default is True else default}]"
