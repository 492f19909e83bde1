"""The tests' reports, gathered in the controller."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import without_secrets, writable
from harness.base.records import read_json
from harness.checks import Verdict
from harness.plugin.invocation import handover_to
from harness.plugin.pictures import PICTURES
from harness.plugin.progress import announce
from harness.plugin.verdicts import SECONDS, VERDICT
from harness.run.feature_records import read_records
from harness.run.findings import Findings
from harness.run.results import OtherTest
from harness.run.tally import MAX_TEXT_LENGTH, shortened, shortened_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.plugin.run import GateRun

_LIMIT_OF_COVERAGE = "another plugin counts a failure that no test has, such as a limit of coverage"


class Collector:
    """Gathers the tests' reports in the controller, whichever process they ran in."""

    def __init__(self, run: GateRun, session: pytest.Session) -> None:
        self.run = run
        self.session = session
        self.tally = run.tally
        self.ended = 0
        """Tests that have ended."""
        self.failures = 0
        """Failed tests and modules, which pytest counts, too."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's verdict and pictures, and errors that have no verdict."""
        if report.failed and not hasattr(report, "wasxfail"):
            self.failures += 1

        verdicts = _verdicts_in(report)
        seconds = sum(filter(_is_float, _properties(report, SECONDS)))
        for verdict in verdicts:
            self.tally.take(verdict, test=report.nodeid)
            self.tally.seconds[verdict.check.family] += seconds
            for pictures in _properties(report, PICTURES):
                self.run.pictures.book.take(verdict, pictures)

        has_verdict = bool(verdicts) and all(verdict.status != "error" for verdict in verdicts)
        self._list(report, has_verdict=has_verdict)
        if report.failed and not verdicts:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else str(report.longrepr)
            self.tally.take_failure(message, test=report.nodeid, called=report.when == "call")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Say what the workers do when they have run the last test."""
        self.ended += 1
        awaits_workers = not self.run.collected.tests and self.run.request.record is None
        if awaits_workers and self.ended == self.session.testscollected:
            compares = not self.run.request.no_overview
            announce(self.session.config, checks=True, compares=compares, below="\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take errors of files that cannot be imported, and of rows with unexpected keys."""
        if not report.failed:
            return
        self.failures += 1
        *_, last_line = str(report.longrepr).splitlines()
        self._add_error(Code.TEST, f"{report.nodeid}: cannot be collected: {last_line}")
        self._list(report, has_verdict=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Take a failure that another plugin adds, such as a limit of coverage."""
        if session.testsfailed > self.failures and not self.tally.interrupted:
            self._add_error(Code.PYTEST, _LIMIT_OF_COVERAGE)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from other stops, whose exceptions pytest and xdist derive from it.

        Those are collection errors, `--maxfail` and `pytest.exit`.
        """
        if isinstance(excinfo.value, pytest.exit.Exception):
            self._add_error(Code.PYTEST, f"the run was ended by pytest.exit: {excinfo.value}")
            return
        self.tally.interrupted = type(excinfo.value) is KeyboardInterrupt
        handover = handover_to(self.session.config)
        if self.tally.interrupted and handover is not None:
            handover.note_interrupt()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take self-checks and the overview of a worker that made them, or its death."""
        worker_output = getattr(node, "workeroutput", {})
        imports.include(worker_output.get("code", {}))
        if error:
            self._add_error(Code.CRASH, f"worker {node.gateway.id} died: {error}")
        if "findings" in worker_output:
            where = "a worker's findings"
            self.tally.findings += read_json(Findings, worker_output["findings"], where=where)
            self.tally.parts |= read_records(worker_output["parts"], where=where)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Take errors of pytest itself."""
        self._add_error(Code.INTERNAL, f"internal error: {str(excrepr).splitlines()[-1]}")

    def _add_error(self, code: str, message: str) -> None:
        self.tally.errors.append(coded(code, message))

    def _list(self, report: pytest.TestReport | pytest.CollectReport, *, has_verdict: bool) -> None:
        """List a test in the report if it has no verdict, or has printed something."""
        outcome = _outcome_of(report)
        if report.when != "call" and outcome == "passed":
            return

        text = _text_of(report, with_message=not has_verdict)
        if not text and has_verdict and outcome != "rerun":
            return
        name = shortened_name(report.nodeid)
        text = shortened(without_secrets(text), MAX_TEXT_LENGTH)
        self.tally.tests.append(OtherTest(writable(name), outcome, writable(text)))


def _outcome_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the outcome of a test in the words of pytest's summary."""
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    outcome = str(report.outcome)  # A plugin of retries has one of its own.
    if report.when != "call" and outcome == "failed":
        return "error"
    return outcome


def _text_of(report: pytest.TestReport | pytest.CollectReport, *, with_message: bool) -> str:
    """Return what a test printed, behind its error or the reason of its skip."""
    blocks = []
    message = report.longrepr
    if isinstance(message, tuple):  # Of a skip: path, line and reason.
        message = message[-1]
    if with_message and message is not None:
        blocks.append(str(message))
    blocks += [f"--- {title} ---\n{content}" for title, content in report.sections]
    return "\n".join(filter(None, blocks))


@contextmanager
def failures_left_out(reporter: pytest.TerminalReporter) -> Iterator[None]:
    """Leave failed tests of checks out of what pytest prints until the block ends.

    The summary of the gate names the worst of each family and other errors, and the report all.
    The first error of a test stays, and so do tests without a check.
    """
    all_reports: dict[str, list[Any]] = {}
    for name in ("failed", "error"):
        if name in reporter.stats:
            all_reports[name] = reporter.stats[name]

    shows_error = False
    for name, reports in all_reports.items():
        printed_reports = []
        for report in reports:
            if not _verdicts_in(report):
                printed_reports.append(report)
            elif not shows_error and _is_error_of_test(report):
                printed_reports.append(report)
                shows_error = True
        reporter.stats[name] = printed_reports
    try:
        yield
    finally:
        reporter.stats.update(all_reports)


def _is_error_of_test(report: Any) -> bool:
    """Return whether a test of a check raised an error, whose traceback helps to mend the test."""
    has_traceback = not isinstance(getattr(report, "longrepr", ""), str)
    return has_traceback and _verdicts_in(report)[0].code == Code.TEST


def _verdicts_in(report: Any) -> list[Verdict]:
    return [_read_verdict(text) for text in _properties(report, VERDICT)]


def _properties(report: Any, name: str) -> list[Any]:
    """Return the properties of this name that a test's report carries between processes."""
    return [value for key, value in getattr(report, "user_properties", ()) if key == name]


def _is_float(value: object) -> bool:
    return isinstance(value, float)


@cache
def _read_verdict(text: str) -> Verdict:
    """Return the verdict that travels with a test's report, made once from its text."""
    return read_json(Verdict, text, where="a worker's verdict")
