"""The command `bridge explain`: the meanings and remedies of finding codes."""

from __future__ import annotations

import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import click

from bridges.cli.console import COLOURS, print_json
from bridges.errors import ConfigError
from bridges.findings import GROUPS, Explanation, explanations

NEAR = 0.45  # similarity of a code that is suggested
WIDEST = 100  # columns of text


def explain(codes: Sequence[str], as_json: bool) -> int:
    """Print the entries of these codes, or a list of all. Returns the exit code.

    Raises ConfigError for an unknown code.
    """
    chosen = [_entry(code) for code in codes] or [*explanations().values()]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if as_json:
        print_json({"findings": [*map(_document, chosen)]})
        return 0
    for line in _entries(chosen, width) if codes else _listed(chosen, width):
        click.echo(line)
    return 0


def codes_from(begun: str) -> list[str]:
    """The codes with this beginning, for shell completion."""
    return [code for code in explanations() if code.startswith(begun)]


def _entry(code: str) -> Explanation:
    found = explanations().get(code.strip().lower())
    if found is None:
        near = difflib.get_close_matches(code.lower(), explanations(), 3, NEAR)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ConfigError(
            f"there is no finding code {code!r}. {hint}`bridge explain` lists all codes."
        )
    return found


def _entries(chosen: Sequence[Explanation], width: int | None) -> Iterator[str]:
    """Each entry in full."""
    for at, entry in enumerate(chosen):
        if at:
            yield ""
        severities = " or ".join(
            click.style(one.value, fg=COLOURS[one]) for one in entry.severities
        )
        group = click.style(GROUPS[entry.group], dim=True)
        yield f"{click.style(entry.code, bold=True)}  {severities}  {group}"
        yield from _wrapped(entry.meaning, width)
        yield click.style("  To do:", bold=True)
        yield from _wrapped(entry.action, width)


def _wrapped(text: str, width: int | None) -> list[str]:
    size = min(width or WIDEST, WIDEST)
    return textwrap.wrap(
        text, size, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


def _listed(chosen: Sequence[Explanation], width: int | None) -> Iterator[str]:
    """A line for each code with the first sentence of its meaning, by group."""
    longest = max(len(entry.code) for entry in chosen)
    for group, entries in groupby(chosen, lambda entry: entry.group):
        yield click.style(GROUPS[group], bold=True)
        for entry in entries:
            first = entry.meaning.split(". ")[0].rstrip(".")
            room = len(first) if width is None else width - longest - 4
            shown = first if len(first) <= room else f"{first[: room - 1].rstrip()}…"
            yield f"  {entry.code:<{longest}}  {click.style(shown, dim=True)}"


def _document(entry: Explanation) -> dict[str, Any]:
    return {**vars(entry), "severities": [one.value for one in entry.severities]}
