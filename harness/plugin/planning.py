"""Plans and other work in place of a run, such as an export of what tests would ask for."""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import InputError, foreign_code, reason
from harness.base.records import as_json, read_json
from harness.plugin.replays import Replays
from harness.plugin.run import RUN, GateRun, selected_checks
from harness.run.budget import Costs, Plan, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.run.mutants import Judge


_PATIENCE_S = 30.0
"""Seconds that a run may take to say how long it will take."""
_COSTS = "stress_costs"
"""The name under which what the controller measured travels to the workers, which count."""


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say how much a run is about to do."""
    run = config.stash[RUN]
    if run.session is None or run.is_worker or run.plans or config.get_verbosity() < 0:
        return []
    if run.session.scope.stopped is not None:
        check, of = run.session.scope.stopped
        measured = f"{len(run.session.images):,} of {of:,} images"
        return [f"stress: {check} fails for certain, after {measured}"]

    from harness.run.plan import cost_in_brief

    patience = min(run.request.timeout_seconds or _PATIENCE_S, _PATIENCE_S)
    # Nothing captures output here, and what a model prints would be the terminal's.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        cost = cost_in_brief(run.session, start_seconds=run.start_seconds, patience=patience)
    lines = [f"stress: {cost}"]
    budget_s = run.request.budget_seconds
    if run.fits_a_budget and budget_s:
        lines.append(f"stress: samples are chosen that fit into {duration(budget_s)}, if need be")
    return lines


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker what the controller measured: all must choose the same samples."""
    run = node.config.stash[RUN]
    if run.costs is not None:
        node.workerinput[_COSTS] = as_json(run.costs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Plan, or do other work, in place of the tests, or choose samples for a time budget."""
    run = session.config.stash[RUN]
    if session.testsfailed or not session.items or not run.active:
        return None

    if run.plans:
        with Replays(run) as replays:
            if run.request.instead is None:
                _print_plan(run, session, replays.judge_set_up)
            else:
                _work_instead(run, session, replays.judge_set_up, *run.request.instead)
        return True

    if run.fits_a_budget:
        with Replays(run) as replays:
            _fit_samples(run, session, replays.judge_set_up)
    return None


def _work_instead(
    run: GateRun, session: pytest.Session, judge: Judge, module: str, order: dict[str, Any]
) -> None:
    """Do the work that the request names in place of a run; if it fails, the status is 4."""
    try:
        work = import_module(module).run_instead
        work(run.prepare(), selected_checks(session), judge, run.request, order)
        run.output.replaces_run = True
    except (InputError, OSError) as error:
        print(f"ERROR: {reason(error)}", flush=True)


def _print_plan(run: GateRun, session: pytest.Session, judge: Judge) -> None:
    """Print what a run would cost; without a plan the status is 4."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.ensure_newline()
    reporter.section("what a run would cost")
    try:
        to_calibrate = run.request.budget_seconds is not None
        plan = _plan_of(run, session, judge, costs=None, to_calibrate=to_calibrate)
        lines = _lines_of_plan(run, plan)
        run.output.plan = as_json(plan)
        run.output.replaces_run = True
    except Exception as error:  # Whatever a model raises.
        lines = [f"there is no plan: {reason(error)}"]
    for line in lines:
        reporter.write_line(line)


def _lines_of_plan(run: GateRun, plan: Plan) -> list[str]:
    from harness.calibration.samples import samples_in_toml
    from harness.report.costs import plan_lines

    session = run.prepare()
    panel = session.panel_predictions
    models = len(panel.models) if panel else 0
    lines = [*plan_lines(plan), "nothing was judged"]

    samples = samples_in_toml(plan.samples, plan, session.checks, models=models)
    if samples:
        lines.append(
            "to fit, `stress-harness calibrate --budget`, which writes these lines into the checks "
            "file:"
        )
    return [*lines, *samples]


def _plan_of(
    run: GateRun,
    session: pytest.Session,
    judge: Judge,
    *,
    costs: Costs | None,
    to_calibrate: bool = False,
) -> Plan:
    from harness.run.plan import plan_of

    with foreign_code():
        return plan_of(
            run.prepare(),
            selected_checks(session),
            judge,
            budget=run.request.budget_seconds,
            costs=costs or run.measured_costs(),
            overview=run.has_overview,
            to_calibrate=to_calibrate,
        )


def _fit_samples(run: GateRun, session: pytest.Session, judge: Judge) -> None:
    """Have the families measured on samples that fit, on the same in each process."""
    if run.is_worker:
        worker_input = session.config.workerinput  # type: ignore[attr-defined]
        costs = read_json(Costs, worker_input[_COSTS], where="the controller's costs")
        plan = _shared_plan(
            run, worker_input["testrunuid"], lambda: _plan_of(run, session, judge, costs=costs)
        )
    else:
        plan = _plan_of(run, session, judge, costs=run.costs)
    run.session = run.prepare().with_samples(plan.samples)

    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and not run.is_worker and session.config.get_verbosity() >= 0:
        from harness.report.costs import plan_lines

        reporter.ensure_newline()
        for line in plan_lines(plan):
            reporter.write_line(f"stress: {line}")


def _shared_plan(run: GateRun, run_of_workers: str, make_plan: Callable[[], Plan]) -> Plan:
    """Return the plan of the worker that makes it first.

    It leaves predictions in the cache, which would change the plans of other workers.
    """
    cache = run.prepare().cache
    if cache is None:
        return make_plan()

    from filelock import FileLock

    key = hashlib.sha256(f"plan {run_of_workers}".encode()).hexdigest()
    with ExitStack() as stack:
        with suppress(OSError):  # In a folder that cannot be written no worker leaves answers.
            cache.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache.folder / "plan.lock"))
        text = cache.load_text(key)
        if text is not None:
            return read_json(Plan, text, where="a worker's plan")

        plan = make_plan()
        cache.store_text(key, as_json(plan))
        return plan
