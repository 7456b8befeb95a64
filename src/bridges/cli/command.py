"""The classes of the commands."""

from __future__ import annotations

import click

INTERRUPTED = 130
WRITING = ("export", "migrate")
LOOKING = ("diff", "explain", "ls", "report", "view")  # in bridges.cli.looking
SECTIONS = {  # of `bridge --help`
    "Look at runs": ("inspect", "ls", "diff", "report", "explain"),
    "Write runs into trackers": ("export", "verify", "view"),
    "Migrate many runs": ("init", "migrate", "schema"),
    "Set up": ("sources", "targets", "completion"),
}


class Commands(click.Group):
    """The group of all commands; those for looking are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted({*self.commands, *LOOKING})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name in LOOKING and cmd_name not in self.commands:
            from bridges.cli.looking import COMMANDS

            for command in COMMANDS:
                self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summary of each command, by section."""
        width = max(map(len, self.list_commands(ctx)))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                found = ((name, self.get_command(ctx, name)) for name in names)
                formatter.write_dl(
                    [
                        (name.ljust(width), each.get_short_help_str(200))
                        for name, each in found
                        if each
                    ]
                )


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
