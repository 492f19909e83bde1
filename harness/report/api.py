"""The gate in Python: `from harness import gate`, in a notebook or at the end of a training script."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code, coded
from harness.base.errors import InputError
from harness.base.groups import unknown
from harness.base.outputs import HISTORY, Output
from harness.checks.roles import ROLES
from harness.report.refusal import UNFINISHED, Claim, agreed_verdict
from harness.run.execute import RunResult, execute, without_verdict
from harness.run.history import leave_line
from harness.run.request import RunRequest, command_line, new_run_id
from harness.run.settings import ON_LINE, SETTINGS
from harness.run.status import INTERRUPTED, NOT_JUDGED, PASSED, WORSE, report_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_VERDICTS = {
    PASSED: ("pass", "partial"),
    WORSE: ("fail", "partial"),
    NOT_JUDGED: ("partial",),  # No threshold by hand is decided by its sample, and there is no other check.
    INTERRUPTED: ("partial",),
}
"""Possible verdicts by exit status. A run with the verdict `error` ends with 4 unless interrupted."""


def gate(
    candidate: str | Path | None = None,
    *,
    tests: str | Path = "stress_tests",
    baseline: str | Path | None = None,
    incumbent: str | Path | None = None,
    original: str | Path | None = None,
    checks: str | Path | None = None,
    profile: str | None = None,
    samples: int | None = None,
    budget: str | None = None,
    reports: str | Path | None = None,
    device: str | None = None,
    no_cache: bool | None = None,
    options: Sequence[str] = (),
    progress: bool = True,
    **settings: Any,
) -> RunResult:
    r"""Run the gate on a candidate in a process of its own, and return its verdict with every value measured.

    Arguments are the settings of `pytest stress_tests` by their names, with the same defaults. `settings` replace those
    of the table `[gate]` in `stress_tests/checks.toml`, or are checkpoints of further roles.
    `tests` is the folder of the stress tests, and `options` are further options of pytest. With `progress`, the lines
    of the run are printed meanwhile. An inconclusive run raises nothing: its verdict is `error`, and `errors` say why.
    Raises `InputError` for a wrong setting.

        from harness import gate

        result = gate("runs/new.pth", data="folder:photos/test")
        if not result.passed:
            print(result.headline, *result.failed, sep="\\n")
    """
    settings |= {name: value for name, value in locals().items() if name in {*ROLES, *ON_LINE} and value is not None}
    if not isinstance(tests, str | Path) or isinstance(options, str):
        raise InputError("tests is a path, and options are a list of texts")
    if wrong := next((name for name in settings if name not in {*ROLES, *SETTINGS} or name == "plan"), None):
        raise unknown(wrong, SETTINGS)
    given = {name: value.item() if hasattr(value, "item") else value for name, value in settings.items()}  # NumPy's.
    more: dict[str, Any] = {"tests": (str(tests),), "options": tuple(options), "root": Path.cwd()}
    request = RunRequest.of(given, **more)
    request.expect_sound()
    return judged(request, on_line=print if progress else None)


def judged(request: RunRequest, *, shown: bool = False, on_line: Callable[[str], None] | None = None) -> RunResult:
    """Run the gate as `execute` does, and make sure that its reports agree with its exit status.

    If they differ, as after a crash, all reports get the verdict `error`, and the result has the exit status 4. The
    line of a run in its history is added here, since its process may end otherwise after it has made the line.
    """
    request = request.but(run_id=new_run_id())
    result = execute(request, shown=shown, on_line=on_line)
    if result.plan is not None:
        return result
    verdict = agreed_verdict(result.reports, run=request.run_id)
    if result.concluded and verdict in _VERDICTS.get(result.exit_status, ()):
        if result.trace and (failed := leave_line(Output(result.trace[0], HISTORY), result.trace[1])):
            print(failed, file=sys.stderr)
        return result
    result = replace(result, exit_status=INTERRUPTED if result.exit_status == INTERRUPTED else NOT_JUDGED)
    if (verdict == "error" and result.errors != (UNFINISHED,)) or (result.concluded and result.report is None):
        return result
    reason = without_verdict(result.status)
    if result.concluded:
        found = f"the gate ended with exit status {result.status}, and its reports do not agree; nothing was judged"
        reason = coded(Code.OUTPUT, found)
    claim = Claim(result.reports, ["pytest", *command_line(request)], request.run_id)
    with suppress(InputError):
        claim.take(wait=False, reason=reason)
    claim.release()
    return replace(result, concluded=False, report=report_in(result.reports) or None)
