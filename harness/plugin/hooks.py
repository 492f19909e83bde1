"""The beginning and the end of a gate run."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import coded
from harness.base.errors import InputError, code_of, lacking, told
from harness.base.records import as_json
from harness.base.termination import end_with_parent
from harness.checks.known import read_known
from harness.plugin.after_tests import checks_itself, compares_models, work_after_tests
from harness.plugin.collector import Collector, failures_left_out
from harness.plugin.invocation import only_collects
from harness.plugin.options import REQUEST
from harness.plugin.outcome import set_outcome
from harness.plugin.parametrization import MISPLACED
from harness.plugin.progress import announce
from harness.plugin.run import INPUTS, PICTURED, PREDICTIONS, RUN, GateRun, selected_checks
from harness.plugin.start import start_run
from harness.report.owner import on_github, shortest
from harness.run.earlier_runs import expect_to_leave
from harness.run.feature_records import plain_records
from harness.run.findings import Findings
from harness.run.opening import EXAMPLES, checks_of
from harness.run.settings import option_of_pytest
from harness.run.status import NOT_JUDGED, PAGE

if TYPE_CHECKING:
    from collections.abc import Generator

_PARENT = "stress_parent"
"""The name under which the id of the controller's process travels to the workers."""
_MARKER = (
    "stress_check(family, *keys, metric=''): a stress test, run once per check of this family, and "
    "metric, in the checks file; `keys` are those that its checks have besides those of all checks."
)
_IS_MISPLACED = pytest.StashKey[bool]()
"""True if workers have stress tests although this is no run of a gate."""
_COLORS = {"pass": "green", "partial": "yellow"}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Begin a run; what it reads is opened once the session starts."""
    config.addinivalue_line("markers", _MARKER)
    run = GateRun(config)
    config.stash[RUN] = run
    if run.active and run.is_worker:
        parent = config.workerinput.get(_PARENT)  # type: ignore[attr-defined]
        if parent == os.getppid():  # A worker on another machine has no such parent.
            end_with_parent(parent)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, None, None]:
    """Check all inputs in the controller, before workers start.

    A `UsageError` ends the run with exit status 4.
    """
    run = session.config.stash[RUN]
    if run.active:
        try:
            _open(run)
        except InputError as error:
            message = told(error, option_of_pytest)
            raise pytest.UsageError(coded(code_of(error), message)) from None
        except (ImportError, MemoryError) as error:
            raise pytest.UsageError(coded(code_of(error), lacking(error))) from None
        if not run.is_worker:
            session.config.pluginmanager.register(Collector(run, session))
    yield


def _open(run: GateRun) -> None:
    """Read the checks, and in the controller all else that the run needs; raises `InputError`."""
    _limit_hypothesis(run)
    checks = checks_of(run.request)
    run.checks = checks
    read_known(checks)
    if not run.is_worker and not only_collects(run.config):
        expect_to_leave(run.request)
        start_run(run, checks)


def _limit_hypothesis(run: GateRun) -> None:
    """Give Hypothesis the profile's budget, without checks that do not fit the gate's rows.

    The rows are few, frozen and the same for every example.
    """
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "stress",
        max_examples=EXAMPLES[run.request.profile],
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            # Each row, plan and replay has an instance of its own of a test class.
            HealthCheck.differing_executors,
        ],
    )
    settings.load_profile("stress")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note that a worker has collected stress tests in a run that does not judge them."""
    if MISPLACED in getattr(node, "workeroutput", {}):
        node.config.stash[_IS_MISPLACED] = True


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker which bytes are judged, and with which process it ends."""
    run = node.config.stash[RUN]
    node.workerinput[_PARENT] = os.getpid()
    node.workerinput[REQUEST] = run.request.plain
    node.workerinput[PICTURED] = run.pictured
    if run.session is not None:
        node.workerinput[INPUTS] = run.inputs
        node.workerinput[PREDICTIONS] = run.session.foreign_predictions


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn the verdicts into an outcome, write it down, and set the exit status."""
    config = session.config
    run = config.stash[RUN]
    without_plan = run.plans and not run.output.replaces_run
    if without_plan or config.stash.get(_IS_MISPLACED, False):
        session.exitstatus = NOT_JUDGED

    if not run.judges:
        return
    if run.is_worker:
        _report_to_controller(session, run)
    elif not isinstance(sys.exception(), pytest.UsageError):  # It ends a run before its tests.
        _conclude(session, run)


def _report_to_controller(session: pytest.Session, run: GateRun) -> None:
    work_after_tests(run, selected_checks(session))
    session.config.workeroutput.update(  # type: ignore[attr-defined]
        code=imports.files(),
        findings=as_json(run.tally.findings),
        parts=plain_records(run.tally.parts),
    )


def _conclude(session: pytest.Session, run: GateRun) -> None:
    """Do the work after the tests, and set the outcome and the exit status.

    An interrupted run keeps the exit status that pytest has for it.
    """
    interrupted = run.tally.interrupted
    if run.request.no_overview:
        why = "no_overview" if run.request.stopped is None else "the run stopped"
        missing = f"The models were not compared ({why})."
        run.tally.findings += Findings(overview_missing=missing)
    if not interrupted:
        session.exitstatus = NOT_JUDGED  # Until there is a verdict.
        announce(session.config, checks=checks_itself(run), compares=compares_models(run))

    work_after_tests(run, selected_checks(session))
    outcome = set_outcome(run)
    if not interrupted:
        session.exitstatus = outcome.exit_status


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Print the verdict last; on GitHub's runners also as annotations.

    Below it stand the worst failures. With `-v` all stand above it, too.
    """
    run = config.stash[RUN]
    has_outcome = run.output.outcome is not None
    if has_outcome and config.option.reportchars == "fE":  # pytest's default.
        terminalreporter.reportchars = terminalreporter.reportchars.replace("f", "")
    is_brief = has_outcome and config.get_verbosity() <= 0
    with failures_left_out(terminalreporter) if is_brief else nullcontext():
        yield
    if has_outcome:
        _print_verdict(terminalreporter, run)


def _print_verdict(reporter: pytest.TerminalReporter, run: GateRun) -> None:
    from harness.report.text import annotation_lines, summary_lines

    outcome = run.output.outcome
    assert outcome is not None
    color = _COLORS.get(outcome.verdict, "red")
    reporter.section("model quality gate", **{color: True})  # type: ignore[arg-type]

    reports = shortest(run.request.reports_folder)
    lines = list(summary_lines(outcome, reports))
    if run.session and run.session.cluster:
        lines.append(f"cluster: {run.session.cluster.workers} workers")
    if on_github():
        lines += annotation_lines(outcome, reports / PAGE)
    for line in lines:
        reporter.line(line)
