"""The command `gate`: the verdict on a candidate."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.codes import Code, coded
from harness.base.errors import InputError, code_of, lacking, printable
from harness.base.termination import TerminatedError, termination_raised
from harness.cli import options
from harness.run.status import INTERRUPTED, MEANING, NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Sequence

ALLOW_PARTIAL = "--allow-partial"
_PARTIAL = coded(
    Code.PARTIAL,
    "the verdict is partial, so the run is inconclusive (exit 4): stress.md lists what was left "
    "out. Run all checks on "
    f"all images, or accept a partial verdict with {ALLOW_PARTIAL}.",
)


class _Gate(options.CommandWithExample):
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
    help="Run the stress tests by pytest, which gets all arguments but --allow-partial; "
    "`stress-harness list settings` prints those of the gate. The exit status is 0 if every check "
    "of a whole run passes and the reports say so, and 1 if a check fails. It is 4 if the run is "
    "inconclusive: without a verdict, as after a crash, or partial, since checks or images were "
    "left out. With --allow-partial a partial verdict has the status of the checks that ran.",
)
@click.argument("arguments", nargs=-1)
def gate_command(arguments: tuple[str, ...]) -> int:
    """Run the gate; the status is 4 whatever goes wrong here."""
    given = tuple(argument for argument in arguments if argument != ALLOW_PARTIAL)
    try:
        with termination_raised():
            if not given and not Path("stress_tests").exists():
                from harness.checks.tables import OF_PROJECT, hint_of_project

                advice = (
                    hint_of_project(Path(OF_PROJECT)) or "run `stress-harness init` to make one"
                )
                return _said(f"[{Code.USAGE}] there is no gate here; {advice}")
            return _run_pytest(given or ("stress_tests",), allow_partial=ALLOW_PARTIAL in arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # Nothing that goes wrong here is a verdict.
        return _said(f"{_reason(error)}\n{MEANING}")


def _run_pytest(arguments: Sequence[str], *, allow_partial: bool) -> int:
    """Run pytest as its user would, and return the exit status of the gate."""
    import pytest

    from harness.plugin.invocation import Caller
    from harness.run.inner import PLUGIN

    caller = Caller(tuple(arguments))
    status = int(pytest.main([*PLUGIN, *arguments], plugins=[caller]))
    printed_version = caller.is_listing_or_plan is None and status == 0
    if caller.is_listing_or_plan or printed_version:
        return status
    if caller.refused:  # pytest has said why.
        return NOT_JUDGED
    result = caller.result
    if result is None:
        return _refused(arguments, f"pytest ended with exit status {status} and without a verdict")
    if result.verdict == "partial" and result.exit_status != INTERRUPTED and not allow_partial:
        return _said(_PARTIAL)
    return result.exit_status


def _refused(arguments: Sequence[str], why: str) -> int:
    """Have the reports refuse a run that pytest has not begun, and print the reason."""
    from harness.report.refusal import refuse_unbegun
    from harness.run.request import RunRequest, with_options_read

    reports = Path("reports")
    with suppress(InputError):
        reports = with_options_read(
            RunRequest(options=tuple(arguments), root=Path.cwd())
        ).reports_folder
    said = coded(Code.PYTEST, why)
    refuse_unbegun(reports, ("pytest", *arguments), said, wait=True)
    return _said(f"{said}\n{MEANING}")


def _reason(error: BaseException) -> str:
    """Return in one line, with its code, why the run could not start."""
    if isinstance(error, OSError):
        where = error.filename or (
            "the working folder" if isinstance(error, FileNotFoundError) else ""
        )
        why = f"{where}: {error.strerror or error}; the candidate was not evaluated".removeprefix(
            ": "
        )
        return coded(Code.FILE, printable(why))
    return (
        str(error) if isinstance(error, TerminatedError) else coded(code_of(error), lacking(error))
    )


def _said(message: str) -> int:
    options.tell(*f"error: {message}".split("\n"), to=sys.stderr)
    return NOT_JUDGED
