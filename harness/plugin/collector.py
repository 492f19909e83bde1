"""The tests' reports, gathered in the controller."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.records import read_json
from harness.checks import Verdict
from harness.measures.panel.consensus import CONSENSUS_SET_ERRORS
from harness.plugin.pictures import PICTURES, PictureBook
from harness.plugin.progress import tell
from harness.plugin.run import PROPERTY
from harness.report.refusal import TITLE
from harness.run.outcome import Part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.plugin.run import GateRun


class Collector:
    """Gathers the tests' reports in the controller, whichever process they ran in."""

    def __init__(self, run: GateRun, session: pytest.Session) -> None:
        self.run, self.session = run, session
        self.ended = 0
        self.reported = run.reported
        self.book = PictureBook(run.command)
        self.page: Any = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's verdict and pictures, and errors that have no verdict."""
        verdicts = _verdicts_in(report)
        made: list[Any] = [value for name, value in report.user_properties if name == PICTURES]
        for verdict in verdicts:
            self.reported.take(verdict, test=report.nodeid)
            for shown in made:
                self.book.take(verdict, shown)
                if verdict.status == "fail" and shown["pictures"]:
                    self.reported.examples[verdict.check.id] = shown["pictures"][0]
                if verdict.metric == CONSENSUS_SET_ERRORS.name and shown["pictures"]:
                    self.reported.consensus_pictures[verdict.check.id] = shown["pictures"]
        if report.failed and not verdicts:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else str(report.longrepr)
            self.reported.take_failure(message, test=report.nodeid, called=report.when == "call")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Say what the workers do when they have run the last test."""
        self.ended += 1
        awaits_workers = not self.run.tests and self.run.request.record is None
        if awaits_workers and self.ended == self.session.testscollected:
            tell(self.session.config, checks=True, compares=not self.run.request.no_overview, below="\n")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take errors of test files that cannot be imported, and of rows whose keys are not those of their test."""
        if report.failed:
            *_, said = str(report.longrepr).splitlines()
            self.reported.errors.append(coded(Code.TEST, f"{report.nodeid}: cannot be collected: {said}"))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from a stop after collection errors or `--maxfail`, which pytest and xdist derive from it."""
        if isinstance(excinfo.value, pytest.exit.Exception):
            self.reported.errors.append(coded(Code.PYTEST, f"the run was ended by pytest.exit: {excinfo.value}"))
        else:
            self.reported.interrupted = type(excinfo.value) is KeyboardInterrupt

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take the self-checks and the overview of the workers that made them, and the death of one that died."""
        reported, sent = self.reported, getattr(node, "workeroutput", {})
        imports.include(sent.get("code", {}))
        if error:
            reported.errors.append(coded(Code.CRASH, f"worker {node.gateway.id} died: {error}"))
        if "part" in sent:
            reported.part += read_json(Part, sent["part"], where="a worker's findings")

    def pytest_internalerror(self, excrepr: object) -> None:
        """Take errors of pytest itself."""
        self.reported.errors.append(coded(Code.INTERNAL, f"internal error: {str(excrepr).splitlines()[-1]}"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the report after what it is, and fold its tests; the summary adds verdict and candidate."""
        self.page = report
        report.title = TITLE
        if self.session.config.getini("render_collapsed") == "passed":  # Which is pytest-html's default.
            report.set_data("renderCollapsed", ["passed", "skipped", "failed", "error", "xfailed", "xpassed", "rerun"])

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport | pytest.CollectReport, cells: list[str]) -> None:
        """Leave a test with a verdict out of the list of tests, since the table of checks has it.

        A test stays there if it is an error, runs again, or has something of its own to show.
        """
        verdicts = _verdicts_in(report)
        # A plugin of retries has an outcome of its own.
        more = str(report.outcome) == "rerun" or report.sections or getattr(report, "extras", None)
        if verdicts and not more and all(verdict.status != "error" for verdict in verdicts):
            cells.clear()

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: pytest.TestReport | pytest.CollectReport, data: list[str]) -> None:
        """Remove from a test's log the text that its entry repeats, and the note on an empty log."""
        told = any(verdict.status != "error" for verdict in _verdicts_in(report)) and bool(report.longreprtext)
        if told or not (report.longreprtext or report.sections):
            del data[:1]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """Put the scorecard on top of the report, with the pictures of its checks, now that all have arrived."""
        from harness.report.html import page_title, scorecard

        outcome = self.run.outcome
        if outcome is not None:
            prefix.append(scorecard(replace(outcome, details=self.book.entries_shown())))
            self.page.title = page_title(outcome)


@contextmanager
def failures_left_out(reporter: pytest.TerminalReporter) -> Iterator[None]:
    """Leave failed tests of checks out of what pytest prints until the block ends; the first error of a test stays.

    The summary of the gate names the worst of each family and other errors, and the report all. Other tests stay.
    """
    kept = {name: reporter.stats.get(name) for name in ("failed", "error")}
    first = True
    for name, reports in kept.items():
        shown = []
        for report in reports or []:
            verdicts = _verdicts_in(report)
            raised = not isinstance(getattr(report, "longrepr", ""), str) and verdicts and verdicts[0].code == Code.TEST
            if not verdicts or (raised and first):
                shown.append(report)
                first = first and not raised
        if reports:
            reporter.stats[name] = shown
    try:
        yield
    finally:
        reporter.stats.update({name: reports for name, reports in kept.items() if reports})


def _verdicts_in(report: Any) -> list[Verdict]:
    return [_verdict(value) for name, value in getattr(report, "user_properties", ()) if name == PROPERTY]


@cache
def _verdict(sent: str) -> Verdict:
    """Return the verdict that travels with a test's report, made once from what is sent."""
    return read_json(Verdict, sent, where="a worker's verdict")
