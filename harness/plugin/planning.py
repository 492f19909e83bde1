"""Plans and other work in place of a run, such as an export: what the collected stress tests would ask for."""

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


_PATIENCE = 30.0
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
        return [
            f"stress: {check} fails for certain, after {len(run.session.images):,} of {of:,} images"
        ]
    from harness.run.plan import cost_in_brief

    patience = min(run.request.timeout_seconds or _PATIENCE, _PATIENCE)
    # Nothing captures output here, and what a model prints would be the terminal's.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        lines = [
            f"stress: {cost_in_brief(run.session, start_seconds=run.start_seconds, patience=patience)}"
        ]
    if run.fits_a_budget and run.request.budget_seconds:
        lines.append(
            f"stress: samples are chosen that fit into {duration(run.request.budget_seconds)}, if need be"
        )
    return lines


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker what the controller measured: all must choose the same samples."""
    run = node.config.stash[RUN]
    if run.costs is not None:
        node.workerinput[_COSTS] = as_json(run.costs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Plan, or work otherwise, in place of running the tests, or find the samples with which they fit into a time."""
    run = session.config.stash[RUN]
    if (
        session.testsfailed
        or not session.items
        or not (run.active and (run.plans or run.fits_a_budget))
    ):
        return None
    with Replays(run) as replays:
        if run.plans:
            _in_place(run, session, replays.judge_set_up)
        else:
            _fit(run, session, replays.judge_set_up)
    return True if run.plans else None


def _in_place(run: GateRun, session: pytest.Session, judge: Judge) -> None:
    """Say what a run costs, or do what is asked for instead; without either the status is 4."""
    if (instead := run.request.instead) is not None:
        try:
            module, order = instead
            import_module(module).run_instead(
                run.prepare(), selected_checks(session), judge, run.request, order
            )
            run.planned = True
        except (InputError, OSError) as error:
            print(f"ERROR: {reason(error)}", flush=True)
        return
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.ensure_newline()
    reporter.section("what a run would cost")
    try:
        lines = _planned(run, session, judge)
    except Exception as error:  # Whatever a model raises.
        lines = [f"there is no plan: {reason(error)}"]
    for line in lines:
        reporter.write_line(line)


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


def _planned(run: GateRun, session: pytest.Session, judge: Judge) -> list[str]:
    from harness.calibration.samples import samples_in_toml
    from harness.report.costs import plan_lines

    plan = _plan_of(
        run, session, judge, costs=None, to_calibrate=run.request.budget_seconds is not None
    )
    run.planned, run.plan = True, as_json(plan)
    known = run.prepare().panel_predictions
    in_toml = samples_in_toml(
        plan.samples, plan, run.prepare().checks, models=len(known.models) if known else 0
    )
    if in_toml:
        in_toml.insert(
            0,
            "to fit, `stress-harness calibrate --budget`, which writes these lines into the checks file:",
        )
    return [*plan_lines(plan), "nothing was judged", *in_toml]


def _fit(run: GateRun, session: pytest.Session, judge: Judge) -> None:
    """Have the families measured on samples that fit, on the same in each process."""
    from harness.report.costs import plan_lines

    if run.is_worker:
        given = session.config.workerinput  # type: ignore[attr-defined]
        costs = read_json(Costs, given[_COSTS], where="the controller's costs")
        plan = _shared(run, given["testrunuid"], lambda: _plan_of(run, session, judge, costs=costs))
    else:
        plan = _plan_of(run, session, judge, costs=run.costs)
    run.session = run.prepare().with_samples(plan.samples)
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and not run.is_worker and session.config.get_verbosity() >= 0:
        reporter.ensure_newline()
        for line in plan_lines(plan):
            reporter.write_line(f"stress: {line}")


def _shared(run: GateRun, run_of_workers: str, make: Callable[[], Plan]) -> Plan:
    """Return the plan of the worker that makes it first: it leaves answers in the cache, which would change others'."""
    if (cache := run.prepare().cache) is None:
        return make()
    from filelock import FileLock

    key = hashlib.sha256(f"plan {run_of_workers}".encode()).hexdigest()
    with ExitStack() as stack:
        with suppress(OSError):  # In a folder that cannot be written no worker leaves answers.
            cache.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache.folder / "plan.lock"))
        if (found := cache.load_text(key)) is not None:
            return read_json(Plan, found, where="a worker's plan")
        plan = make()
        cache.store_text(key, as_json(plan))
        return plan
