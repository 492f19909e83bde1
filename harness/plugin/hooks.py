"""The begin and the end of a gate run; options, fixtures, tests and verdicts are in modules beside this one."""

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
from harness.plugin.collector import Collector, failures_left_out
from harness.plugin.finish import finish
from harness.plugin.looking_back import checks_itself, compares_models, look_back
from harness.plugin.options import ASKED
from harness.plugin.place import only_collects
from harness.plugin.progress import tell
from harness.plugin.run import (
    INPUTS,
    MISPLACED,
    PICTURED,
    PREDICTIONS,
    RUN,
    GateRun,
    selected_checks,
)
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


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Begin a run; what it reads is opened once the session starts."""
    config.addinivalue_line(
        "markers",
        "stress_check(family, *keys, metric="
        "): a stress test, run once per check of this family, and metric, in "
        "the checks file; `keys` are those that its checks have besides those of all checks.",
    )
    config.stash[RUN] = run = GateRun(config)
    if not run.active:
        return
    if run.is_worker and os.getppid() == (parent := config.workerinput.get(_PARENT)):  # type: ignore[attr-defined]
        end_with_parent(parent)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, None, None]:
    """Check all inputs in the controller, before workers start; a `UsageError` ends the run with exit status 4."""
    run = session.config.stash[RUN]
    if run.active:
        try:
            _open(run)
        except (InputError, ImportError, MemoryError) as error:
            said_of = (
                told(error, option_of_pytest) if isinstance(error, InputError) else lacking(error)
            )
            raise pytest.UsageError(coded(code_of(error), said_of)) from None
        if not run.is_worker:
            session.config.pluginmanager.register(Collector(run, session))
    yield


def _open(run: GateRun) -> None:
    """Read the checks, and in the controller all else that the run needs; raises `InputError` for what is wrong."""
    _limit_hypothesis(run)
    run.checks = checks_of(run.request)
    read_known(run.checks)
    if not run.is_worker and not only_collects(run.config):
        expect_to_leave(run.request)
        run.start()


def _limit_hypothesis(run: GateRun) -> None:
    """Give Hypothesis the profile's budget; the gate's rows are few, frozen and the same for every example."""
    from hypothesis import HealthCheck, settings

    examples = EXAMPLES[run.request.profile]
    settings.register_profile(
        "stress",
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=False,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,  # Each row, plan and replay has an instance of its own of a test class.
        ],
    )
    settings.load_profile("stress")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's word that it has collected stress tests in a run that is none of their gate."""
    node.config.stash[RUN].misplaced |= MISPLACED in getattr(node, "workeroutput", {})


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell each worker which bytes are judged, and with which process it ends."""
    run = node.config.stash[RUN]
    node.workerinput[_PARENT], node.workerinput[ASKED] = os.getpid(), run.request.plain
    node.workerinput[PICTURED] = run.pictured
    if run.session is not None:
        node.workerinput |= {INPUTS: run.inputs, PREDICTIONS: run.session.foreign_predictions}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn the verdicts into an outcome, write it down, and set the exit status."""
    run = session.config.stash[RUN]
    if run.misplaced or (run.active and run.plans and not run.planned):
        session.exitstatus = NOT_JUDGED
    if not run.judges:
        return
    if run.is_worker:
        look_back(run, selected_checks(session))
        session.config.workeroutput.update(  # type: ignore[attr-defined]
            code=imports.files(),
            findings=as_json(run.reported.findings),
            parts=plain_records(run.reported.parts),
        )
        return
    if isinstance(sys.exception(), pytest.UsageError):  # Nothing was run.
        return
    interrupted = run.reported.interrupted
    if run.request.no_overview:
        why = "no_overview" if run.request.stopped is None else "the run stopped"
        missing = f"The models were not compared ({why})."
        run.reported.findings += Findings(overview_missing=missing)
    if not interrupted:
        session.exitstatus = NOT_JUDGED  # Until there is a verdict.
        tell(session.config, checks=checks_itself(run), compares=compares_models(run))
    look_back(run, selected_checks(session))
    outcome = finish(run)
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
    if run.outcome is not None and config.option.reportchars == "fE":  # Nobody asked.
        terminalreporter.reportchars = terminalreporter.reportchars.replace("f", "")
    brief = run.outcome is not None and config.get_verbosity() <= 0
    with failures_left_out(terminalreporter) if brief else nullcontext():
        yield
    if run.outcome is None:
        return
    from harness.report.text import summary_lines

    colour = {"pass": "green", "partial": "yellow"}.get(run.outcome.verdict, "red")
    terminalreporter.section("model quality gate", **{colour: True})  # type: ignore[arg-type]
    reports = shortest(run.request.reports_folder)
    for line in summary_lines(run.outcome, reports):
        terminalreporter.line(line)
    if run.session and run.session.cluster:
        terminalreporter.line(f"cluster: {run.session.cluster.workers} workers")
    if on_github():
        from harness.report.text import annotation_lines

        for line in annotation_lines(run.outcome, reports / PAGE):
            terminalreporter.line(line)
