"""The class of the commands."""

from __future__ import annotations

import click


class Command(click.Command):
    """A command with parameters created on first use, so other commands start faster."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters."""
        if not self.params:
            from bridges.cli.options import options_of

            self.params = options_of(self.name or "")
        return super().get_params(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        from bridges.cli.help import write_options

        write_options(self.get_params(ctx), ctx, formatter)
