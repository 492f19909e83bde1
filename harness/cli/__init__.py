"""The command line, `stress-harness`: train, evaluate, compare, break, calibrate, accept, convert and the rest."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from harness.base.errors import InputError, Interruption
from harness.base.settings import told
from harness.cli.accepting import add_commands as add_accepting_commands
from harness.cli.breaking import add_commands as add_breaking_commands
from harness.cli.calibrating import add_commands as add_calibrating_commands
from harness.cli.comparing import add_commands as add_comparing_commands
from harness.cli.evaluating import add_commands as add_evaluating_commands
from harness.cli.files import add_commands as add_file_commands
from harness.cli.gate import add_commands as add_gate_command
from harness.cli.golden import add_commands as add_golden_commands
from harness.cli.history import add_commands as add_history_command
from harness.cli.models import option_name
from harness.cli.starting import add_commands as add_starting_commands
from harness.cli.status import REFUSED
from harness.cli.training import add_commands as add_training_commands

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 for a negative answer, 2 for bad usage and refused input, 130 for Ctrl-C.

    Of `stress_check` it is the gate's own status.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # What stands after `--`, or `stress_check`, is for the gate; argparse itself would take only a part of it.
    passed_on = arguments[:1] == ["check"] and arguments[1:2] not in (["-h"], ["--help"])
    end = 1 if passed_on else arguments.index("--") if "--" in arguments else len(arguments)
    parser = _parser()
    options = parser.parse_args(arguments[:end])
    options.options = tuple(arguments[end if passed_on else end + 1 :])
    if options.options and not options.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(options.options)}")
    try:
        status: int = options.run(options)
    except InputError as error:
        print(f"error: {told(error, option_name)}", file=sys.stderr)
        return REFUSED
    except Interruption as error:  # What models ran on is lost.
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, run the command again to go on", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stress-harness", description="Stress-test image classifiers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example: stress-harness {example}",
        )
        command.set_defaults(run=run, passes_on=False)
        return command

    add_training_commands(add)
    add_evaluating_commands(add)
    add_starting_commands(add)
    add_gate_command(add)
    add_calibrating_commands(add)
    add_accepting_commands(add)
    add_golden_commands(add)
    add_breaking_commands(add)
    add_comparing_commands(add)
    add_history_command(add)
    add_file_commands(add)
    return parser
