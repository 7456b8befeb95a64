"""The command `bridge sources`: the installed sources, and the formats of tables."""

from __future__ import annotations

from inspect import getdoc

import click

from bridges import plugins
from bridges.cli.console import print_json, printable
from bridges.option import Options, described
from bridges.sources.tables.formats import TableFormat, built_in


def print_sources(as_json: bool) -> int:
    """Print the sources and the formats of tables. Returns the exit code."""
    found = [*plugins.built_in("sources"), *plugins.third_party("sources")]
    formats = built_in()
    if as_json:
        listed = [{**entry._asdict(), "reads": _reads(entry)} for entry in found]
        tables = {name: _keys(each) for name, each in formats.items()}
        print_json({"sources": listed, "tables": tables})
        return 0
    click.secho("sources (--source NAME)", bold=True)
    for entry in found:
        click.echo(printable(f"  {entry.name:<14}{_reads(entry)}"))
    click.secho("formats of tables (--format NAME)", bold=True)
    for name, each in formats.items():
        click.echo(printable(f"  {name:<14}{each.about}"))
        click.echo(printable(f"  {'':<14}{_files(each)}"))
    return 0


def _keys(model: Options) -> dict[str, object]:
    """The keys of a format that differ from their defaults."""
    defaults = {field.name: field.default for field in described(type(model))}
    values = ((name, getattr(model, name)) for name in defaults)
    return {name: _plain(value) for name, value in values if value != defaults[name]}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [*map(_plain, value)]
    return _keys(value) if isinstance(value, Options) else value


def _reads(entry: plugins.PlugIn) -> str:
    """The first line of the description of a source."""
    return (getdoc(entry.load()) or "").partition("\n")[0]


def _files(format: TableFormat) -> str:
    """The files of a format, and its step, in one line."""
    step = f"step: {format.step[0]}" if format.step else "step: the row"
    when = "" if format.surely != () else ", only if named"
    return f"{', '.join(format.files)}{when}; {step}"
