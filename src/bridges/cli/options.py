"""The parameters of the commands, most of them created from the option models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from bridges.errors import ConfigError
from bridges.exporters.mlflow.options import MlflowOptions
from bridges.exporters.tensorboard.options import TensorBoardOptions
from bridges.exporters.wandb.options import WandbOptions
from bridges.option import Field, Options, described
from bridges.pipeline.options import ExportOptions, Pace
from bridges.sources.options import ReadChoices
from bridges.stream.options import LayoutOptions

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


ENGINE = ("patience", "workers", "kind", "scheduler")  # engine options on the command line
PATHS = _completing("file")


def options_of(command: str) -> list[click.Parameter]:
    """Create the parameters of a command."""
    groups: dict[str, tuple[Callable[[], list[click.Parameter]], ...]] = {
        "export": (_reading, _targeting, _writing, _following),
        "verify": (_reading, _targeting),
        "inspect": (_reading,),
        "ls": (_listing,),
        "migrate": (_migrating,),
    }
    return [parameter for group in groups[command] for parameter in group()]


def _reading() -> list[click.Parameter]:
    """Parameters of the commands with sources and findings."""
    return _sources("Show everything, every finding in full.")


def _sources(verbose: str = "") -> list[click.Parameter]:
    """Parameters of every command with sources."""
    sources = click.Argument(
        ["sources"], nargs=-1, required=True, metavar="SOURCE...", shell_complete=PATHS
    )
    return [
        *_made_of(ReadChoices),
        *_made_of(ExportOptions, only=("source",)),
        *_printing(verbose),
        sources,
    ]


def _listing() -> list[click.Parameter]:
    """Parameters of `bridge ls`."""
    return [
        click.Option(
            ["--columns"],
            multiple=True,
            metavar="NAME,…",
            help="Columns: name, source, group, status, rows, steps, epochs, seconds, a metric "
            "(loss, loss:best), params.KEY, or params (all that differ).",
        ),
        click.Option(
            ["--sort"], metavar="NAME", help="Sort by a column; -NAME sorts from high to low."
        ),
        click.Option(["--csv", "as_csv"], is_flag=True, help="Print comma-separated values."),
        *_sources(),
    ]


def _targeting() -> list[click.Parameter]:
    """Parameters of every command with targets."""
    targets = click.Option(
        ["--to", "targets"],
        multiple=True,
        required=True,
        metavar="TARGET",
        shell_complete=_targets,
        help="tensorboard, mlflow, wandb, or a plug-in (bridge targets); may be repeated.",
    )
    own = click.Option(
        ["-o", "--option", "plug_in_options"],
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of a target from a plug-in; may be repeated.",
    )
    return [
        targets,
        *_made_of(ExportOptions, only=("run_name", "group")),
        *_made_of(LayoutOptions),
        *(option for name, model in TARGETS.items() for option in _made_of(model, name)),
        *_made_of(ExportOptions, only=("jobs",)),
        own,
    ]


def _writing() -> list[click.Parameter]:
    """Parameters of `bridge export`."""
    return [*_made_of(ExportOptions, only=("tags", "verify", "attach_source", "dry_run"))]


def _following() -> list[click.Parameter]:
    """Parameters of `bridge export --follow`."""
    help = "Keep running and append new rows until training ends."
    return [click.Option(["--follow"], is_flag=True, help=help), *_made_of(Pace, "--follow")]


def _migrating() -> list[click.Parameter]:
    """Parameters of `bridge migrate`; engine options have the names of the engine's fields."""
    from bridges.migration.config.engine_options import EngineChoices

    recheck = "Also read and compare runs whose files and settings have not changed."
    return [
        click.Argument(["config"], type=click.Path()),
        *_made_of(ExportOptions, only=("dry_run",)),
        click.Option(["--recheck"], is_flag=True, help=recheck),
        *_made_of(EngineChoices, only=ENGINE, unset="that of the config"),
        *_printing("Show each run as it is done."),
        _file("--report", "Write JSON lines, one for each run as it is done."),
        _file("--html", "Write an HTML report of all runs."),
    ]


def _printing(verbose: str = "") -> list[click.Parameter]:
    """Parameters of every command that prints results; `verbose` is the help of -v, if any."""
    explains = [click.Option(["-v", "--verbose"], is_flag=True, help=verbose)] if verbose else []
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Show errors only."),
        *explains,
    ]


def _file(flag: str, help: str) -> click.Option:
    return click.Option([flag], metavar="FILE", shell_complete=PATHS, help=help)


def _made_of(
    model: type[Options], target: str = "", only: Sequence[str] = (), unset: str = ""
) -> Iterator[click.Option]:
    """The command-line options of a model; unset values are None or an empty tuple."""
    fields = {field.name: field for field in described(model)}
    for name in only or fields:
        field = fields[name]
        flag = field.flag + (f"/--no-{field.name}" if field.default is True else "")
        yield click.Option(
            [flag, field.name],
            metavar=field.about.metavar,
            help=_help(field, target, unset),
            shell_complete=_completing(field.about.completes),
            **_parameter(field),
        )


def _parameter(field: Field) -> dict[str, Any]:
    """The arguments for click to parse the values of a field."""
    if field.choices:
        return {"type": click.Choice(field.choices)}
    if field.kind is int:
        return {"type": click.IntRange(field.about.at_least, field.about.at_most)}
    if field.kind is bool:
        return {"is_flag": True, "default": None}
    if field.kind is float:
        return {"type": float}
    return {} if field.kind is str else {"multiple": True}


def _help(field: Field, target: str, unset: str) -> str:
    text, default = field.about.help, unset or field.about.unset or field.default
    if target:
        text = f"{target}: {text[0].lower()}{text[1:]}"
    if _parameter(field).get("multiple"):
        return f"{text[:-1]}; may be repeated."
    if default in (None, False):
        return text
    shown = "on" if default is True else f"{default:g}" if field.kind is float else default
    return f"{text}  [default: {shown}]"
