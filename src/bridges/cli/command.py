"""A command: its parameters are created on first use, and an interrupt ends with a message."""

from __future__ import annotations

import click

INTERRUPTED = 130
WRITING = ("export", "migrate")


class Command(click.Command):
    """A command with parameters created on first use, so other commands start faster."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters."""
        if not self.params:
            from bridges.cli.options import options_of

            self.params = options_of(self.name or "")
        return super().get_params(ctx)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. If it is interrupted, say whether it left something to continue."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            kept = "; finished runs are kept: rerun the same command for the rest"
            click.echo(f"interrupted{kept if self.name in WRITING else ''}", err=True)
            ctx.exit(INTERRUPTED)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        from bridges.cli.help import write_options

        write_options(self.get_params(ctx), ctx, formatter)
