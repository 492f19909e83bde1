"""The group of all commands, which shows them by purpose and loads each when it runs."""

from __future__ import annotations

from importlib import import_module

import click

from harness.cli import COMMANDS, options


class _Commands(click.Group):
    """All commands; the help needs no more than the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, by purpose."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None for a name that there is not."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(COMMANDS[cmd_name].module)
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries, by purpose."""
        for purpose in dict.fromkeys(command.purpose for command in COMMANDS.values()):
            with formatter.section(purpose):
                found = COMMANDS.items()
                formatter.write_dl(
                    [
                        (name, command.summary)
                        for name, command in found
                        if command.purpose == purpose
                    ]
                )


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    commands={name: click.Command(name) for name in COMMANDS},  # Their names.
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has --help with an example. Each error has a code, which `stress-harness "
    "docs troubleshooting` explains.",
)
@click.version_option(package_name="stress-harness", prog_name="stress-harness")
@click.pass_context
def commands(context: click.Context) -> None:
    """Stress-test image classifiers: a model quality gate. Begin with init."""
    options.help_without_command(context)
