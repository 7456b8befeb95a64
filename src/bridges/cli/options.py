"""The parameters of the commands, most of them created from the option models."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import click

from bridges.cli.help import GroupedOption, help_all
from bridges.errors import ConfigError
from bridges.exporters.built_in import HEADINGS, MODELS
from bridges.option import Field, Options, described
from bridges.pipeline.options import ExportOptions, LayoutOptions, Pace
from bridges.sources.options import ReadChoices

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def pairs(flag: str, values: Sequence[str]) -> dict[str, str]:
    """The values of a repeated KEY=VALUE option. Raises ConfigError."""
    split = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise ConfigError(f"{flag} {value!r}: expected KEY=VALUE")
        split[key] = text
    return split


Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _completing(kind: str | None, examples: Sequence[str] = ()) -> Complete | None:
    """The completion of a path of this kind ("file" or "dir"), or of one of the examples."""
    if not (kind or examples):
        return None

    def complete(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if examples:
            return [CompletionItem(each) for each in examples if each.startswith(begun)]
        return [CompletionItem(begun, type=kind or "plain")]

    return complete


ENGINE = ("patience", "workers", "kind", "scheduler")  # engine options on the command line
PATHS = _completing("file")
COMMON = {  # fields whose options are in every `--help`; the others are in `--help-all`
    *("run_name", "group", "tags", "dry_run", "x_axis"),
    *("logdir", "tracking_uri", "experiment", "project", "mode"),
}


def _target_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """The installed targets whose names begin with `begun`."""
    from bridges import plugins

    known = [*plugins.built_in("exporters"), *plugins.third_party("exporters")]
    return [each.name for each in known if each.name.startswith(begun)]


def _split(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> tuple[str, ...]:
    """The named targets, one by one. Without any, raises MissingParameter with all targets."""
    if values and values[-1].endswith(","):
        named = "".join(values)
        raise click.BadParameter(
            f"{named!r} ends with a comma. Write several targets without blanks, such as "
            "tensorboard,mlflow.",
            context,
            parameter,
        )
    names = _named(context, parameter, values)
    if not (names or context.resilient_parsing):
        known = ", ".join(_target_names(context, parameter, ""))
        raise click.MissingParameter(f"Choose from: {known}", context, parameter)
    return names


def _named(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> tuple[str, ...]:
    """The named targets, one by one."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def options_of(command: str) -> list[click.Parameter]:
    """Create the parameters of a command."""
    groups: dict[str, tuple[Callable[[], list[click.Parameter]], ...]] = {
        "export": (_targeting, _writing, _following, _targets, _reading, _printing),
        "verify": (_targeting, _targets, _reading, _printing),
        "inspect": (_charting, _reading, _printing),
        "ls": (_listing, _reading, _printing_tables),
        "diff": (_comparing, _reading_options, _printing_differences),
        "report": (_reporting, _reading, _printing_quietly),
        "explain": (_explaining,),
        "view": (_viewing,),
        "init": (_drafting, _reading),
        "migrate": (_migrating,),
    }
    return [parameter for group in groups[command] for parameter in group()]


def _reading() -> list[click.Parameter]:
    """Parameters of every command with sources."""
    sources = click.Argument(
        ["sources"], nargs=-1, required=True, metavar="SOURCE...", shell_complete=PATHS
    )
    return [sources, *_reading_options()]


def _reading_options() -> list[click.Parameter]:
    """Parameters of reading."""
    return [
        *_made_of(ReadChoices, "Reading"),
        *_made_of(ExportOptions, "Reading", only=("source",)),
    ]


def _listing() -> list[click.Parameter]:
    """Parameters of `bridge ls`."""
    columns = (
        "Columns: name, source, group, status, rows, steps, epochs, seconds, a metric "
        "(loss, loss:best), params.KEY, or params (all that differ)."
    )
    return [
        GroupedOption(
            ["--columns"], heading="Table", multiple=True, metavar="NAME,…", help=columns
        ),
        GroupedOption(
            ["--sort"],
            heading="Table",
            metavar="NAME",
            help="Sort by a column; -NAME sorts from high to low.",
        ),
    ]


def _charting() -> list[click.Parameter]:
    """Parameters of `bridge inspect`."""
    return [_file("--html", "Also write an HTML page with the charts of all runs.")]


def _reporting() -> list[click.Parameter]:
    """Parameters of `bridge report`."""
    page = "Path of the page, such as report.html."
    return [_file("-o", page, "--output", required=True)]


def _comparing() -> list[click.Parameter]:
    """Parameters of `bridge diff`."""
    names = ("a", "b")
    return [
        *(click.Argument([name], metavar=name.upper(), shell_complete=PATHS) for name in names),
        GroupedOption(
            ["--ignore", "ignored"],
            heading="Runs",
            multiple=True,
            metavar="PATTERN",
            help="Leave out params and metrics that match, such as '*_runtime'; may be repeated.",
        ),
    ]


def _explaining() -> list[click.Parameter]:
    """Parameters of `bridge explain`."""

    def near(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
        from bridges.cli.explain import codes_from

        return codes_from(begun)

    json = GroupedOption(
        ["--json", "as_json"], heading="Output", is_flag=True, help="Print one JSON document."
    )
    return [click.Argument(["codes"], nargs=-1, metavar="[CODE]...", shell_complete=near), json]


def _viewing() -> list[click.Parameter]:
    """Parameters of `bridge view`."""
    return [
        click.Argument(["targets"], nargs=-1, metavar="[TARGET]...", shell_complete=PATHS),
        GroupedOption(
            ["--port"],
            heading="Viewer",
            type=click.IntRange(1, 65_535),
            metavar="N",
            help="Port of the first viewer; others get the next ones.",
        ),
        GroupedOption(
            ["--dry-run"], heading="Viewer", is_flag=True, help="Print the commands only."
        ),
    ]


def _drafting() -> list[click.Parameter]:
    """Parameters of `bridge init`."""
    return [
        GroupedOption(
            ["--to", "targets"],
            heading="Config",
            multiple=True,
            callback=_named,
            metavar="TARGET",
            shell_complete=_target_names,
            help="Targets, several with commas; the others are comments.  [default: tensorboard]",
        ),
        GroupedOption(
            ["-o", "--output"],
            heading="Config",
            default="migration.yaml",
            show_default=True,
            metavar="FILE",
            shell_complete=PATHS,
            help="Path of the config, or - to print it.",
        ),
        GroupedOption(["--force"], heading="Config", is_flag=True, help="Overwrite the file."),
        GroupedOption(["-q", "--quiet"], heading="Output", is_flag=True, help="Show errors only."),
        help_all(),
    ]


def _targeting() -> list[click.Parameter]:
    """Parameters of every command with targets."""
    targets = GroupedOption(
        ["--to", "targets"],
        heading="Runs",
        multiple=True,
        callback=_split,
        metavar="TARGET",
        shell_complete=_target_names,
        help=f"{', '.join(MODELS)}, or a plug-in; several with commas.  [required]",
    )
    return [
        targets,
        *_made_of(ExportOptions, "Runs", only=("run_name", "group")),
        *_made_of(LayoutOptions, "Runs"),
    ]


def _targets() -> list[click.Parameter]:
    """Parameters of the targets, each under the name of its target."""
    own = GroupedOption(
        ["-o", "--option", "plug_in_options"],
        heading="Plug-ins",
        is_rare=True,
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of a target from a plug-in; may be repeated.",
    )
    return [*_own_options(), *_made_of(ExportOptions, HEADINGS["wandb"], only=("jobs",)), own]


def _own_options() -> Collection[click.Option]:
    """The options of the targets. Targets that share one may have defaults of their own."""
    made: dict[str, click.Option] = {}
    for target, model in MODELS.items():
        heading = HEADINGS[target]
        for field, option in zip(described(model), _made_of(model, heading), strict=True):
            first = made.setdefault(field.name, option)
            if first.help and first.help != option.help:
                first.help = f"{first.help[:-1]}; {heading}: {field.about.unset}]"
    return made.values()


def _writing() -> list[click.Parameter]:
    """Parameters of `bridge export`."""
    only = ("tags", "verify", "attach_source", "dry_run")
    return [*_made_of(ExportOptions, "Runs", only=only)]


def _following() -> list[click.Parameter]:
    """Parameters of `bridge export --follow`."""
    follow = GroupedOption(
        ["--follow"],
        heading="Runs",
        is_flag=True,
        help="Keep running and append new rows until training ends.",
    )
    return [follow, *_made_of(Pace, "Runs")]


def _migrating() -> list[click.Parameter]:
    """Parameters of `bridge migrate`; engine options have the names of the engine's fields."""
    from bridges.migration.config.engine_options import EngineChoices

    recheck = "Also read and compare runs whose files and settings have not changed."
    return [
        click.Argument(["config"], type=click.Path()),
        *_made_of(ExportOptions, "Runs", only=("dry_run",)),
        GroupedOption(["--recheck"], heading="Runs", is_flag=True, help=recheck),
        *_made_of(EngineChoices, "Engine", only=ENGINE, unset="from the config", common=ENGINE),
        _file("--report", "Write JSON lines, one for each finished run."),
        _file("--html", "Write an HTML report of all runs."),
        *_printing("Show each finished run."),
    ]


def _printing(verbose: str = "Show every finding in full.") -> list[click.Parameter]:
    """Parameters of the output; `verbose` is the help of -v, or empty for commands without it."""
    flags = {
        ("--json", "as_json"): "Print one JSON document.",
        ("-q", "--quiet"): "Show errors only.",
    }
    more = GroupedOption(
        ["-v", "--verbose"],
        heading="Output",
        count=True,
        callback=_verbose,
        help=f"{verbose} -vv also logs reading, matching, requests and SQL on stderr.",
    )
    return [
        *(
            GroupedOption([*names], heading="Output", is_flag=True, help=help)
            for names, help in flags.items()
        ),
        *([more] if verbose else []),
        help_all(),
    ]


def _verbose(context: click.Context, parameter: click.Parameter, count: int) -> bool:
    """Whether -v is given; -vv also shows the log, in the workers of a migration as well."""
    if count > 1 and not context.resilient_parsing:
        from bridges import log
        from bridges.stream.redact import redact_message

        os.environ[log.ENVIRONMENT] = "1"
        log.show(redact_message)
    return count > 0


def _printing_tables() -> list[click.Parameter]:
    """Parameters of the commands that print a table."""
    csv = GroupedOption(
        ["--csv", "as_csv"],
        heading="Output",
        is_flag=True,
        help="Print comma-separated values.",
    )
    return [csv, *_printing(verbose="")]


def _printing_differences() -> list[click.Parameter]:
    """Parameters of `bridge diff`."""
    return _printing("Show durations, too.")


def _printing_quietly() -> list[click.Parameter]:
    """Parameters of the commands without -v."""
    return _printing(verbose="")


def _file(flag: str, help: str, *names: str, required: bool = False) -> click.Option:
    return GroupedOption(
        [flag, *names],
        heading="Output",
        required=required,
        metavar="FILE",
        shell_complete=PATHS,
        help=help,
    )


def _made_of(
    model: type[Options],
    heading: str,
    only: Sequence[str] = (),
    unset: str = "",
    common: Collection[str] = COMMON,
) -> Iterator[click.Option]:
    """The command-line options of a model; unset values are None or an empty tuple."""
    fields = {field.name: field for field in described(model)}
    for name in only or fields:
        field = fields[name]
        flag = field.flag + (f"/--no-{field.name}" if field.default is True else "")
        also = [f"--{field.about.alias}"] if field.about.alias else []
        yield GroupedOption(
            [flag, *also, field.name],
            heading=heading,
            is_rare=name not in common,
            metavar=field.about.metavar,
            help=_help(field, unset),
            shell_complete=_completing(field.about.completes, field.about.examples),
            **_parameter(field),
        )


class _Parameter(TypedDict, total=False):
    """The arguments of click that parse the values of a field."""

    type: object
    is_flag: bool
    default: None
    multiple: bool


def _parameter(field: Field) -> _Parameter:
    if field.choices:
        return {"type": click.Choice(field.choices)}
    if field.kind is int:
        return {"type": click.IntRange(field.about.at_least, field.about.at_most)}
    if field.kind is bool:
        return {"is_flag": True, "default": None}
    if field.kind is float:
        return {"type": float}
    return {} if field.kind is str else {"multiple": True}


def _help(field: Field, unset: str) -> str:
    text, default = field.about.help, unset or field.about.unset or field.default
    if _parameter(field).get("multiple"):
        return f"{text[:-1]}; may be repeated."
    if default in (None, False):
        return text
    shown = "on" if default is True else f"{default:g}" if field.kind is float else default
    return f"{text}  [default: {shown}]"
