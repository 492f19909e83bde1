"""The group of all commands, which shows them by purpose and loads each when it runs."""

from __future__ import annotations

from importlib import import_module

import click

from harness.cli import COMMANDS


class _Commands(click.Group):
    """All commands; the help needs no more than the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, by purpose."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None for a name that there is not."""
        module = next((commands[cmd_name][0] for commands in COMMANDS.values() if cmd_name in commands), None)
        if module is None:
            return None
        command: click.Command = getattr(
            import_module(f"harness.cli.{module}"), f"{cmd_name.replace('-', '_')}_command"
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries, by purpose."""
        for purpose, commands in COMMANDS.items():
            with formatter.section(purpose):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])


@click.group(
    cls=_Commands,
    commands={name: click.Command(name) for commands in COMMANDS.values() for name in commands},  # Their names.
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has --help with an example. Each error has a code, which docs/troubleshooting.md explains.",
)
@click.version_option(package_name="stress-harness", prog_name="stress-harness")
def commands() -> None:
    """Stress-test image classifiers: a model quality gate. Begin with init."""
