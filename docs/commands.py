"""The commands and their help texts, as the pages about them are written from them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from bridges.cli.main import app


@dataclass(frozen=True)
class Option:
    """An option: its names and metavar, its help, and its heading (empty: none)."""

    names: str
    help: str
    heading: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of a help text; one that keeps its lines is a `block` under its title."""

    text: str
    block: str = ""


@dataclass(frozen=True)
class Page:
    """A command with its usage, help and options, the rare ones included."""

    name: str
    usage: str
    paragraphs: tuple[Paragraph, ...]
    options: tuple[Option, ...]


def pages() -> Iterator[Page]:
    """The page of `bridge`, then those of its commands in alphabetical order."""
    yield _page("bridge", app, None)
    context = click.Context(app, info_name="bridge", **app.context_settings)
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        if not command.hidden:
            yield _page(f"bridge {name}", command, context)


def _page(name: str, command: click.Command, parent: click.Context | None) -> Page:
    called = name.rpartition(" ")[2]
    context = click.Context(command, parent, called, **command.context_settings)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    return Page(name, usage, (*_paragraphs(command.help or ""),), (*_options(command, context),))


def _options(command: click.Command, context: click.Context) -> Iterator[Option]:
    heading = ""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            names, help = record
            heading = getattr(parameter, "heading", heading)  # the last: those of the help
            yield Option(names, " ".join(help.split()), heading)


def _paragraphs(text: str) -> Iterator[Paragraph]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        kept = paragraph.removeprefix("\b\n")
        title, _, block = kept.partition("\n")
        if kept != paragraph and block.startswith(" "):
            yield Paragraph(title, inspect.cleandoc(block))
        else:
            yield Paragraph(" ".join(kept.split()))
