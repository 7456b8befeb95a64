"""The command `bridge init`: writes a migration config for the runs of some locations."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from bridges import plugins
from bridges.cli.console import count_noun, printable
from bridges.cli.reading import Reading
from bridges.errors import ConfigError
from bridges.pipeline.options import ExportOptions
from bridges.views.config_draft import Found, draft


def init(
    sources: Sequence[str],
    options: ExportOptions,
    targets: Sequence[str],
    path: str,
    force: bool,
    quiet: bool,
) -> int:
    """Write the config, or print it if `path` is `-`. Returns the exit code. Raises ConfigError."""
    _check(path, force)
    for target in targets:
        plugins.find("exporters", target)
    found, code = [], 0
    for source in sources:
        reading, one = Reading([source], options, quiet), Found(source)
        for run in reading.runs():
            one.add(run)
        found += [one] if one.names else []
        code = max(code, reading.end())
    if not found:
        return code or 2
    text = draft(found, targets or ["tensorboard"], path)
    if path == "-":
        click.echo(text, nl=False)
        return code
    _write(path, text)
    if not quiet:
        runs = sum(len(one.names) for one in found)
        click.echo(f"{count_noun(runs, 'run')} → {printable(path)}")
        command = click.style(f"bridge migrate {printable(path)} --dry-run", bold=True)
        click.echo(f"Next: {command}")
    return code


def _check(path: str, force: bool) -> None:
    """Raise ConfigError for an unusable path."""
    suffix = os.path.splitext(path)[1].lower()
    if path != "-" and suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--output {path}: expected a name that ends in .yaml, or - to print it")
    if os.path.exists(path) and not force:
        raise ConfigError(f"--output {path}: the file is there already; --force overwrites it")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror or error}") from None
