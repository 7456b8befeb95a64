"""Help pages: options under headings; the rare ones only in `--help-all`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

ALL = "bridges.help_all"  # key in the context: also show rare options


class GroupedOption(click.Option):
    """An option with a heading for help pages. `is_rare`: only `--help-all` shows it."""

    def __init__(self, *args: Any, heading: str, is_rare: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading
        self.is_rare = is_rare


def help_all() -> click.Option:
    """The option `--help-all`, which prints the help with all options."""
    return click.Option(
        ["--help-all"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_all,
        help="Show all options and exit.",
    )


def _print_all(context: click.Context, _: click.Parameter, is_given: bool) -> None:
    if is_given and not context.resilient_parsing:
        context.meta[ALL] = True
        click.echo(context.get_help(), color=context.color)
        context.exit()


def write_options(
    parameters: Sequence[click.Parameter], context: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the help of the options under their headings, in the order of the options."""
    sections: dict[str, list[tuple[str, str]]] = {}
    hidden = 0
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if record is None or not isinstance(parameter, click.Option):
            continue
        if getattr(parameter, "is_rare", False) and ALL not in context.meta:
            hidden += 1
        else:
            sections.setdefault(getattr(parameter, "heading", "Output"), []).append(record)
    for heading, records in sections.items():
        with formatter.section(heading):
            formatter.write_dl(records)
    if hidden:
        formatter.write_paragraph()
        formatter.write_text(f"{hidden} more options: {context.command_path} --help-all")
