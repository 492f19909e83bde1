"""The command line `stress-harness`: commands by purpose, each loaded when it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code, coded
from harness.base.errors import (
    FeatureError,
    InputError,
    Interruption,
    code_of,
    harmless,
    lacking,
    told,
)
from harness.base.features import Command
from harness.base.registry import Registry
from harness.run.status import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Sequence

_REFUSED, _INTERRUPTED = 2, 130
OWN = {
    name: Command(purpose, f"harness.cli.{module}", summary, judges=name == "gate")
    for purpose, module, name, summary in (
        ("Gate", "gate", "gate", "Run the stress tests on a candidate, in a process of their own."),
        ("Gate", "history", "history", "Print and draw the last runs of the gate."),
        (
            "Gate",
            "report",
            "report",
            "Draw the page and the summary of a run again, from its stress.json.",
        ),
        ("Setup", "calibrate", "calibrate", "Set thresholds by a panel of reference models."),
        (
            "Inspect",
            "files",
            "list",
            "Print the checks, settings, metrics, corruptions or sources of data.",
        ),
        ("Inspect", "report", "schema", "Print the JSON schema of stress.json."),
        ("Inspect", "docs", "docs", "Print a page of the documentation."),
        ("Maintain", "files", "train", "Train a Fashion-MNIST classifier."),
        ("Maintain", "files", "convert", "Turn a state dict into the native format."),
        ("Maintain", "files", "cache", "Show or empty the cache of predictions and images."),
        ("Maintain", "files", "fetch-data", "Download Fashion-MNIST and verify it."),
    )
}
"""The commands by name, but those of features."""
COMMANDS = Registry("command", Command, OWN, hook="stress_commands")
"""The commands by name."""


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911  One for each kind of end.
    """Run one command and return its exit status.

    It is 0, or 1 for a negative answer, 2 for bad usage and refused input, and 130 for Ctrl-C.
    Commands that judge a model have 4 for bad usage and refused input. The status of `gate` is the
    gate's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _expect_features(given)
    except FeatureError as error:
        return _said(error.code, str(error), NOT_JUDGED)
    refused = (
        NOT_JUDGED if given and given[0] in COMMANDS and COMMANDS[given[0]].judges else _REFUSED
    )
    try:
        import click

        from harness.cli.group import commands
    except ImportError as error:
        return _said(Code.PACKAGE, lacking(error), refused)
    try:
        status: Any = commands.main(given, prog_name="stress-harness", standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"Try '{error.ctx.command_path} --help' for help."
            print(f"{error.ctx.get_usage()}\n{hint}\n", file=sys.stderr)
        return _said(Code.USAGE, error.format_message(), refused)
    except InputError as error:
        from harness.run.settings import option_of_command

        return _said(error.code, told(error, option_of_command), refused)
    except (
        Interruption,
        ImportError,
    ) as error:  # As where the workers that models run on are lost.
        return _said(code_of(error), lacking(error), refused)
    except OSError as error:
        return _said(Code.FILE, f"{error.filename or ''}: {error.strerror or error}", refused)
    except click.Abort:
        print(
            "interrupted; what was finished is kept, run the command again to go on",
            file=sys.stderr,
        )
        return _INTERRUPTED
    return int(status or 0)


def _expect_features(arguments: Sequence[str]) -> None:
    """Raise `FeatureError` for a feature of an installed package that cannot be used.

    Help needs the commands alone, and does not import what names of metrics are compared with.
    """
    list(COMMANDS)
    if arguments and not {"-h", "--help"}.intersection(arguments):
        from harness.run.added_names import expect_new_names

        expect_new_names()


def _said(code: str, message: str, status: int) -> int:
    text = f"error: {coded(code, message)}"
    print(*map(harmless, text.split("\n")), sep="\n", file=sys.stderr)
    return status
