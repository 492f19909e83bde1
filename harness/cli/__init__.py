"""The command line `stress-harness`: commands by purpose, each loaded when it runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from harness.base.errors import InputError, Interruption

if TYPE_CHECKING:
    from collections.abc import Sequence

_REFUSED, _INTERRUPTED = 2, 130
COMMANDS = {
    "Gate": {
        "gate": ("gate", "Run the stress tests on a candidate, in a process of their own."),
        "accept": ("accept", "Gate a checkpoint and, if it passes, make it the incumbent."),
        "golden": ("golden", "Keep images that must never be wrong again."),
        "history": ("history", "Print and draw the last runs of the gate."),
    },
    "Calibrate": {
        "init": ("init", "Make a gate in your own repository."),
        "calibrate": ("calibrate", "Set thresholds by a panel of reference models."),
    },
    "Inspect": {
        "evaluate": ("evaluate", "Print a checkpoint's accuracy, failures and suspect labels."),
        "compare": ("compare", "Compare a checkpoint with the incumbent or others."),
        "break": ("break_image", "Find the smallest rotation and shift that a checkpoint fails on."),
        "list": ("listing", "Print the checks, metrics, corruptions or sources of data."),
    },
    "Maintain": {
        "train": ("train", "Train a Fashion-MNIST classifier."),
        "export-inputs": ("export_inputs", "Write the images that the checks ask about, to be answered elsewhere."),
        "convert": ("files", "Turn a state dict into the native format."),
        "cache": ("files", "Show or empty the cache of predictions and images."),
        "fetch-data": ("files", "Download Fashion-MNIST and verify it."),
    },
}
"""By purpose and name: the module with the command, which it calls by its name, and a summary in one line."""


class _Commands(click.Group):
    """All commands, of which the help needs no more than the table."""

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
    epilog="Each command has --help with an example.",
)
@click.version_option(package_name="stress-harness", prog_name="stress-harness")
def _commands() -> None:
    """Stress-test image classifiers: a model quality gate with a verdict."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 for a negative answer, 2 for bad usage and refused input, 130 for Ctrl-C.

    The status of `gate` is the gate's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status: Any = _commands.main(given, prog_name="stress-harness", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return _REFUSED
    except InputError as error:
        from harness.base.settings import option_of_command, told

        return _refused(told(error, option_of_command))
    except Interruption as error:  # The workers that models run on are lost.
        return _refused(str(error))
    except OSError as error:
        return _refused(f"{error.filename or ''}: {error.strerror or error}")
    except click.Abort:
        print("interrupted; what was finished is kept, run the command again to go on", file=sys.stderr)
        return _INTERRUPTED
    return int(status or 0)


def _refused(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return _REFUSED
