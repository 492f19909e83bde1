"""The command `gate`: the verdict on a candidate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.codes import Code, coded
from harness.base.errors import code_of, lacking, printable
from harness.base.termination import TerminatedError, termination_raised
from harness.cli import options
from harness.run.status import INTERRUPTED, MEANING, NOT_JUDGED

if TYPE_CHECKING:
    from harness.run.execute import RunResult
    from harness.run.request import RunRequest

ALLOW_PARTIAL = "--allow-partial"
_PARTIAL = coded(
    Code.PARTIAL,
    "the verdict is partial, so the run is inconclusive (exit 4): stress.md lists what was left out. Run all checks on "
    f"all images, or accept a partial verdict with {ALLOW_PARTIAL}.",
)


class _Gate(options.Command):
    """A command that passes on all that it is given, but for a request for help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take all arguments unchanged."""
        if args[:1] in (["-h"], ["--help"]):
            return super().parse_args(ctx, args)
        ctx.params["arguments"] = tuple(args)
        return []


@click.command(
    "gate",
    cls=_Gate,
    example="gate stress_tests --candidate runs/new.safetensors -n 2",
    help="Run the stress tests by pytest, which gets all arguments but --allow-partial; `stress-harness list settings` "
    "prints those of the gate. The exit status is 0 if every check of a whole run passes and the reports say so, and 1 "
    "if a check fails. It is 4 if the run is inconclusive: without a verdict, as after a crash, or partial, since "
    "checks or images were left out. With --allow-partial a partial verdict has the status of the checks that ran.",
)
@click.argument("arguments", nargs=-1)
def gate_command(arguments: tuple[str, ...]) -> int:
    """Run the gate; the status is 4 whatever goes wrong here."""
    given = tuple(argument for argument in arguments if argument != ALLOW_PARTIAL)
    try:
        with termination_raised():
            if not given and not Path("stress_tests").exists():
                from harness.checks.tables import OF_PROJECT, hint_of_project

                advice = hint_of_project(Path(OF_PROJECT)) or "run `stress-harness init` to make one"
                return _said(f"[{Code.USAGE}] there is no gate here; {advice}")
            from harness.run.request import RunRequest

            result = judged(RunRequest(options=given or ("stress_tests",), root=Path.cwd()))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # Nothing that goes wrong here is a verdict.
        return _said(f"{_reason(error)}\n{MEANING}")
    if result.verdict == "partial" and result.exit_status != INTERRUPTED and ALLOW_PARTIAL not in arguments:
        return _said(_PARTIAL)
    return result.exit_status


def judged(request: RunRequest) -> RunResult:
    """Run the gate in a child process that prints here, and say so where it ends without a verdict."""
    from harness.report import api
    from harness.run.execute import without_verdict

    result = api.judged(request, shown=True)
    if not result.concluded and result.status != NOT_JUDGED:
        lines = f"error: {without_verdict(result.status)}", MEANING, f"report: {result.page}"
        options.tell(*lines, to=sys.stderr)
    return result


def _reason(error: BaseException) -> str:
    """Return in one line, with its code, why the run could not start."""
    if isinstance(error, OSError):
        where = error.filename or ("the working folder" if isinstance(error, FileNotFoundError) else "")
        why = f"{where}: {error.strerror or error}; the candidate was not evaluated".removeprefix(": ")
        return coded(Code.FILE, printable(why))
    return str(error) if isinstance(error, TerminatedError) else coded(code_of(error), lacking(error))


def _said(message: str) -> int:
    options.tell(*f"error: {message}".split("\n"), to=sys.stderr)
    return NOT_JUDGED
