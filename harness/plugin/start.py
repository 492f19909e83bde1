"""The start of a gate run in its controller, which checks and loads everything."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from harness.base.errors import InputError, Interruption
from harness.base.features import implementations
from harness.run.opening import expect_candidate, train_missing

if TYPE_CHECKING:
    from harness.base.features import Implementation
    from harness.checks import ChecksFile
    from harness.plugin.run import GateRun


def start_run(run: GateRun, checks: ChecksFile) -> None:
    """Load and check what a run needs, and train shipped models that are missing.

    Raises `InputError` for what cannot be used.
    """
    _expect_alone(run)
    if run.request.instead is None:
        _expect_models(run, checks)
        _train_missing(run)
    run.prepare()

    if run.fits_a_budget:
        run.costs = run.measured_costs()
    if run.judges:
        for certain_failure in implementations("stress_certain_failure"):
            _stop_where(run, certain_failure)


def _expect_alone(run: GateRun) -> None:
    """Raise `InputError` for workers or plans beside a cluster, and for less than no worker."""
    options = run.config.option
    workers = getattr(options, "numprocesses", None) or 0
    if workers < 0:
        raise InputError(f"-n {workers}: expected a number of workers from 0")
    if not run.request.on_cluster:
        return

    if getattr(options, "dist", "no") != "no":
        raise InputError("divides the work itself; leave out -n and --dist", setting="backend ray")
    if run.plans or run.fits_a_budget:
        raise InputError(
            "what a run costs is measured on this machine alone; plan, and choose samples for a "
            "budget, without it",
            setting="backend ray",
        )


def _expect_models(run: GateRun, checks: ChecksFile) -> None:
    """Raise `InputError` for a missing candidate or incumbent, and thresholds of another panel."""
    request = run.request
    expect_candidate(request, checks)
    if request.record is None and request.answers is None:
        from harness.calibration.record import expect_rows_of_panel

        checks.expect_rows_as_calibrated()
        expect_rows_of_panel(checks, request.root)
    request.expect_incumbent()


def _train_missing(run: GateRun) -> None:
    capture = run.config.pluginmanager.getplugin("capturemanager")
    # The progress of a training is for the terminal.
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        trained = train_missing(run.request)
    run.request = run.request.but(roles={**run.request.roles, **trained})


def _stop_where(run: GateRun, certain_failure: Implementation) -> None:
    """Have all processes stop at the check and the images that a feature names, if any."""
    session = run.prepare()
    try:
        stopped = certain_failure(session=session, request=run.request)
    except Interruption as error:
        raise InputError(str(error), code=error.code) from None
    if stopped is not None:
        run.request = run.request.but(stopped=stopped, no_overview=True)
        run.session = session.stopped_at(*stopped)
