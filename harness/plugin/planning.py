"""`--stress-plan`: what a run would cost, in place of the run; and the line on it with which a run begins."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout, suppress

import pytest

from harness.errors import foreign_code
from harness.plugin.run import RUN, selected_gates
from harness.plugin.timeout import TimeLimitExceededError, time_limit
from harness.report.costs import plan_lines, samples_in_toml

_PATIENCE = 30.0
"""Seconds that a run may take to say how long it will take."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Plan in one process: workers would run nothing."""
    if config.option.stress_plan and config.pluginmanager.hasplugin("xdist"):
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say how much a run is about to do."""
    run = config.stash[RUN]
    if run.session is None or run.is_worker or run.plans or config.get_verbosity() < 0:
        return None
    from harness.run.plan import in_brief

    # Whatever a model raises, or that it hangs, is told by the tests; no line is worth ending a run, or a long wait.
    seconds = min(run.options.timeout_seconds or _PATIENCE, _PATIENCE)
    with (
        suppress(Exception, TimeLimitExceededError),
        time_limit(seconds, "a first batch"),
        # Nothing captures output here, and what a model prints would be the terminal's.
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        foreign_code(),
    ):
        return f"stress: {in_brief(run.session)}"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Plan in place of running the tests."""
    run = session.config.stash[RUN]
    if not run.plans or session.testsfailed or not session.items:
        return None
    from harness.run.budget import samples_of
    from harness.run.plan import plan_of

    with foreign_code():
        plan = plan_of(run.prepare(), selected_gates(session), run.judge, overview=run.compares_models)
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.ensure_newline()
    reporter.section("what a run would cost")
    for line in plan_lines(plan):
        reporter.write_line(line)
    if (seconds := run.options.budget_seconds) is not None:
        workers = run.prepare().roles["candidate"].classifier.workers
        for line in samples_in_toml(samples_of(plan, seconds=seconds, cores=workers)):
            reporter.write_line(line)
    run.planned = True
    return True
