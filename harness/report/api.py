"""The gate in Python: `from harness import gate`, in a notebook or at the end of a training script."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.codes import Code, coded
from harness.base.errors import InputError
from harness.base.outputs import HISTORY, Output
from harness.base.settings import Setting, expect_typed
from harness.checks.roles import ROLES
from harness.report.files import UNFINISHED, Claim, agreed_verdict
from harness.run.execute import RunResult, execute, without_verdict
from harness.run.history import leave_line
from harness.run.request import RunRequest, command_line, new_run_id
from harness.run.settings import SETTINGS
from harness.run.status import INTERRUPTED, NOT_JUDGED, PASSED, WORSE, report_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PIXELS = frozenset({"size", "resize", "crop"})
"""Settings that are texts, such as 224x320, and may be numbers in Python."""
_VERDICTS = {PASSED: ("pass", "partial"), WORSE: ("fail", "partial"), INTERRUPTED: ("partial",)}
"""Possible verdicts by exit status. A run with the verdict `error` ends with 4 unless interrupted."""


def gate(
    candidate: str | Path | None = None,
    *,
    tests: str | Path = "stress_tests",
    baseline: str | Path | None = None,
    incumbent: str | Path | None = None,
    original: str | Path | None = None,
    checks: str | Path | None = None,
    model: str | None = None,
    model_arg: Sequence[str] = (),
    model_outputs: str | None = None,
    normalisation: str | None = None,
    checkpoint_key: str | None = None,
    strip_prefix: str | None = None,
    predictor_batch: int = 32,
    predictor_timeout: float = 120.0,
    classes: str | None = None,
    http_concurrency: int = 4,
    http_rate: float | None = None,
    http_output: str | None = None,
    data: str = "fashion-mnist",
    size: str | int | None = None,
    channels: int | None = None,
    resize: str | int | None = None,
    crop: str | int | None = None,
    interpolation: str | None = None,
    antialias: str = "yes",
    transform: str | None = None,
    unknown: str | None = None,
    layer: str | None = None,
    profile: str = "default",
    samples: int | None = None,
    device: str = "auto",
    no_cache: bool = False,
    budget: str | None = None,
    timeout: float | None = None,
    backend: str = "process",
    ray_address: str | None = None,
    ray_workers: int | None = None,
    ray_gpus: float = 0.0,
    ray_logs: bool = False,
    no_overview: bool = False,
    no_wait: bool = False,
    reports: str | Path = "reports",
    history: str | Path | None = None,
    mlflow: str | None = None,
    options: Sequence[str] = (),
    progress: bool = True,
    **others: str | Path,
) -> RunResult:
    r"""Run the gate on a candidate in a process of its own, and return its verdict with every value measured.

    Arguments are the settings of `pytest stress_tests` by their names, with the same defaults. `tests` is the folder of
    the stress tests, and `options` are further options of pytest. With `progress`, the lines of the run are printed
    meanwhile. `others` are checkpoints of further roles. An inconclusive run raises nothing: its verdict is `error`,
    and `errors` say why. Raises `InputError` for a wrong setting.

        from harness import gate

        result = gate("runs/new.pth", data="folder:photos/test")
        if not result.passed:
            print(result.headline, *result.failed, sep="\\n")
    """
    given = {**locals(), **others}
    if surplus := others.keys() - ROLES.keys():
        raise TypeError(f"gate() got an unexpected keyword argument {min(surplus)!r}")
    expect_typed(given, [Setting("tests", "", ""), Setting("options", "", "", multiple=True)])
    settings = {name: given[setting.argument] for name, setting in SETTINGS.items() if setting.argument in given}
    settings |= {name: str(value) for name, value in settings.items() if name in _PIXELS and isinstance(value, int)}
    request = RunRequest.of(settings, tests=(str(tests),), options=tuple(options), root=Path.cwd())
    request.expect_sound()
    return judged(request, on_line=print if progress else None)


def judged(request: RunRequest, *, shown: bool = False, on_line: Callable[[str], None] | None = None) -> RunResult:
    """Run the gate as `execute` does, and make sure that its reports agree with its exit status.

    If they differ, as after a crash, all reports get the verdict `error`, and the result has the exit status 4. The
    line of a run in its history is added here, since its process may end otherwise after it has made the line.
    """
    request = replace(request, run_id=new_run_id())
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
