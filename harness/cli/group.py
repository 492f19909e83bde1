"""The group of all commands, which shows them by purpose and loads each when it runs."""

from __future__ import annotations

from importlib import import_module

import click

from harness.cli import COMMANDS


class _Commands(click.Group):
    """All commands; the help needs no more than the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, by purpose."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None for a name that there is not."""
        found = next((commands[cmd_name] for commands in COMMANDS.values() if cmd_name in commands), None)
        if found is None:
            return None
        module, name = import_module(f"harness.cli.{found[0]}"), cmd_name.replace("-", "_")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries, by purpose."""
        for purpose, commands in COMMANDS.items():
            with formatter.section(purpose):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; an unknown name is an error that names those like it."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand:
            raise click.NoSuchCommand(args[0], possibilities=self.list_commands(ctx), ctx=ctx) from None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has --help with an example. Each error has a code, which docs/troubleshooting.md explains.",
)
@click.version_option(package_name="stress-harness", prog_name="stress-harness")
def commands() -> None:
    """Stress-test image classifiers: a model quality gate. Begin with init."""
