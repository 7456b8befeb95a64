"""What is shown of a migration while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bridges.console import json_text


class JsonRuns:
    """The document of `--json` on stdout, none of which is kept: runs as they come, then totals.

    It is what `print_json` makes of both, and whole once `end` was called.
    """

    def __init__(self) -> None:
        self._before = '{\n  "runs": ['

    def add(self, run: Mapping[str, Any]) -> None:
        """Print a run."""
        click.echo(f"{self._before}\n    {_indented(run, 4)}", nl=False)
        self._before = ","

    def end(self, totals: Mapping[str, Any]) -> None:
        """Print the totals."""
        close = "\n  ]" if self._before == "," else f"{self._before}]"
        click.echo(f'{close},\n  "totals": {_indented(totals, 2)}\n}}')


def _indented(document: Mapping[str, Any], spaces: int) -> str:
    # lines of JSON end with no other character than this, and texts hold it as an escape
    return json_text(document).replace("\n", "\n" + " " * spaces)
