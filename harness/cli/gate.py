"""The command `gate`: the stress tests in a process of their own, and a verdict however that ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.execute import RunResult
    from harness.run.request import RunRequest

_INCONCLUSIVE = 4


class _Gate(Command):
    """A command that passes on all that it is given, but for a request for help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take everything as it is."""
        if args[:1] in (["-h"], ["--help"]):
            return super().parse_args(ctx, args)
        ctx.params["arguments"] = tuple(args)
        return []


@click.command(
    "gate",
    cls=_Gate,
    example="gate stress_tests --candidate runs/new.safetensors -n 2",
    help="Run the stress tests by pytest in a process of their own. All arguments go to pytest. The exit status is "
    "pytest's: 0 every check passes, 1 a check fails, 4 inconclusive. It is 4, too, when that process ends without a "
    "verdict, such as by a crash of the model.",
)
@click.argument("arguments", nargs=-1)
def gate_command(arguments: tuple[str, ...]) -> int:
    """Run the gate."""
    if not arguments and not Path("stress_tests").exists():
        print("error: there is no gate here; run `stress-harness init` to make one", file=sys.stderr)
        return _INCONCLUSIVE
    return run_gate(arguments or ("stress_tests",))


def run_gate(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments in a child process and return its exit status, 4 if it came to no verdict."""
    from harness.run.request import RunRequest

    return judged(RunRequest(options=tuple(arguments), root=Path.cwd())).exit_status


def judged(request: RunRequest) -> RunResult:
    """Run the gate in a child process that prints here, and say so where it ends without a verdict."""
    from harness.report import api
    from harness.run.execute import without_verdict
    from harness.run.outcome import NOT_JUDGED

    result = api.judged(request, shown=True)
    if not result.concluded and result.status != NOT_JUDGED:
        print(f"error: {without_verdict(result.status)}", file=sys.stderr)
    return result
