"""Plan of a run in its place, samples that fit it into a time, and the first line about its cost."""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import InputError, Interruption, foreign_code, reason
from harness.base.records import as_json, read_json
from harness.plugin.run import RUN, GateRun, selected_checks
from harness.run.budget import Costs, Plan, duration
from harness.run.time_limit import time_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.base import PredictionCache

_PATIENCE = 30.0
"""Seconds that a run may take to say how long it will take."""
_COSTS = "stress_costs"
"""The name under which what the controller measured travels to the workers, which count."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Plan in one process: workers would run nothing."""
    if config.option.stress_plan and config.pluginmanager.hasplugin("xdist"):
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say how much a run is about to do."""
    run = config.stash[RUN]
    if run.session is None or run.is_worker or run.plans or config.get_verbosity() < 0:
        return []
    from harness.run.plan import rows_in_brief, time_in_brief

    took = "how long it takes is not known, a first batch failed or took too long"
    # The tests report a model that raises or hangs; a line of the plan is worth neither the end of a run nor a wait.
    seconds = min(run.request.timeout_seconds or _PATIENCE, _PATIENCE)
    with (
        suppress(Exception, Interruption),
        time_limit(seconds, "a first batch"),
        # Nothing captures output here, and what a model prints would be the terminal's.
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        foreign_code(),
    ):
        took = time_in_brief(run.session, start_seconds=run.start_seconds)
    lines = [f"stress: {rows_in_brief(run.session)}; {took}"]
    if run.fits_a_budget and run.request.budget_seconds:
        lines.append(f"stress: samples are chosen that fit into {duration(run.request.budget_seconds)}, if need be")
    return lines


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker what the controller measured: all must choose the same samples."""
    run = node.config.stash[RUN]
    if run.costs is not None:
        node.workerinput[_COSTS] = as_json(run.costs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Plan in place of running the tests, or find the samples with which they fit into a time."""
    run = session.config.stash[RUN]
    if session.testsfailed or not session.items or not run.active:
        return None
    if run.fits_a_budget:
        _fit(run, session)
    if not run.plans:
        return None
    if run.request.export is not None:
        _export(run, session)
        return True
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.ensure_newline()
    reporter.section("what a run would cost")
    try:
        lines = _planned(run, session)
    except Exception as error:  # Whatever a model raises; without a plan the status is 4.
        lines = [f"there is no plan: {reason(error)}"]
    for line in lines:
        reporter.write_line(line)
    return True


def _export(run: GateRun, session: pytest.Session) -> None:
    from harness.plugin.exporting import export

    try:
        export(run, session)
    except (InputError, OSError) as error:  # Without an export the status is 4.
        print(f"ERROR: {reason(error)}", flush=True)
    else:
        run.planned = True


def _plan_of(run: GateRun, session: pytest.Session, *, costs: Costs | None = None, to_calibrate: bool = False) -> Plan:
    from harness.run.plan import plan_of

    with foreign_code():
        return plan_of(
            run.prepare(),
            selected_checks(session),
            run.judge,
            budget=run.request.budget_seconds,
            costs=costs or run.measured_costs(),
            overview=run.has_overview,
            to_calibrate=to_calibrate,
        )


def _planned(run: GateRun, session: pytest.Session) -> list[str]:
    from harness.calibration.samples import samples_in_toml
    from harness.report.costs import plan_lines

    plan = _plan_of(run, session, to_calibrate=run.request.budget_seconds is not None)
    run.handover.answer(plan=as_json(plan))
    run.planned = True
    in_toml = samples_in_toml(plan.samples, plan)
    if in_toml:
        in_toml.insert(0, "to fit, `stress-harness calibrate --budget`, which writes these lines into the checks file:")
    return [*plan_lines(plan), "nothing was judged", *in_toml]


@contextmanager
def _shared(run: GateRun) -> Iterator[PredictionCache | None]:
    """Give a worker the cache through which the first that plans tells the others; None where a process is alone.

    The others would find answers in the cache that the first has left there meanwhile, and choose other samples.
    """
    cache = run.prepare().cache
    if not run.is_worker or cache is None:
        yield None
        return
    from filelock import FileLock

    with ExitStack() as stack:
        with suppress(OSError):  # In a folder that cannot be written no worker leaves answers.
            cache.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache.folder / "plan.lock"))
        yield cache


def _key(session: pytest.Session) -> str:
    """Return under which name the workers of this run share their plan."""
    run_of_workers = session.config.workerinput["testrunuid"]  # type: ignore[attr-defined]
    return hashlib.sha256(f"plan {run_of_workers}".encode()).hexdigest()


def _fit(run: GateRun, session: pytest.Session) -> None:
    """Have the families measured on samples that fit, on the same in each process."""
    from harness.report.costs import plan_lines

    costs = run.costs
    if run.is_worker:
        costs = read_json(Costs, session.config.workerinput[_COSTS], where="the controller's costs")  # type: ignore[attr-defined]
    with _shared(run) as cache:
        found = cache and cache.load_text(_key(session))
        plan = read_json(Plan, found, where="a worker's plan") if found else _plan_of(run, session, costs=costs)
        if cache and not found:
            cache.store_text(_key(session), as_json(plan))
    run.session = replace(run.prepare(), fitted=plan.samples)
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None and not run.is_worker and session.config.get_verbosity() >= 0:
        reporter.ensure_newline()
        for line in plan_lines(plan):
            reporter.write_line(f"stress: {line}")
