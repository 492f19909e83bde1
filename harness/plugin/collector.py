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
from harness.plugin.pictures import PICTURES
from harness.plugin.place import handover_to
from harness.plugin.progress import tell
from harness.plugin.run import PROPERTY, SECONDS
from harness.run.feature_records import read_records
from harness.run.findings import Findings
from harness.run.reported import LONGEST, MOST, shortened
from harness.run.results import OtherTest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.plugin.run import GateRun


class Collector:
    """Gathers the tests' reports in the controller, whichever process they ran in."""

    def __init__(self, run: GateRun, session: pytest.Session) -> None:
        self.run, self.session = run, session
        self.ended = 0
        self.failures = 0
        """Failed tests and modules, which pytest counts, too."""
        self.reported = run.reported

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's verdict and pictures, and errors that have no verdict."""
        self.failures += report.failed and not hasattr(report, "wasxfail")
        verdicts = _verdicts_in(report)
        made: list[Any] = [value for name, value in report.user_properties if name == PICTURES]
        for verdict in verdicts:
            self.reported.take(verdict, test=report.nodeid)
            self.reported.seconds[verdict.check.family] += sum(
                value
                for name, value in report.user_properties
                if name == SECONDS and isinstance(value, float)
            )
            for shown in made:
                self.run.book.take(verdict, shown)
        self._keep(
            report,
            checked=bool(verdicts) and all(verdict.status != "error" for verdict in verdicts),
        )
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
            tell(
                self.session.config,
                checks=True,
                compares=not self.run.request.no_overview,
                below="\n",
            )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take errors of test files that cannot be imported, and of rows whose keys are not those of their test."""
        if report.failed:
            self.failures += 1
            *_, said = str(report.longrepr).splitlines()
            self.reported.errors.append(
                coded(Code.TEST, f"{report.nodeid}: cannot be collected: {said}")
            )
            self._keep(report, checked=False)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Take a failure that another plugin adds to those of the tests, such as a limit of coverage."""
        if session.testsfailed > self.failures and not self.reported.interrupted:
            self.reported.errors.append(
                coded(
                    Code.PYTEST,
                    "another plugin counts a failure that no test has, such as a limit of coverage",
                )
            )

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from a stop after collection errors or `--maxfail`, which pytest and xdist derive from it."""
        if isinstance(excinfo.value, pytest.exit.Exception):
            self.reported.errors.append(
                coded(Code.PYTEST, f"the run was ended by pytest.exit: {excinfo.value}")
            )
        else:
            self.reported.interrupted = type(excinfo.value) is KeyboardInterrupt
        handover = handover_to(self.session.config)
        if self.reported.interrupted and handover is not None:
            handover.note_interrupt()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take the self-checks and the overview of the workers that made them, and the death of one that died."""
        reported, sent = self.reported, getattr(node, "workeroutput", {})
        imports.include(sent.get("code", {}))
        if error:
            reported.errors.append(coded(Code.CRASH, f"worker {node.gateway.id} died: {error}"))
        if "findings" in sent:
            where = "a worker's findings"
            reported.findings += read_json(Findings, sent["findings"], where=where)
            reported.parts |= read_records(sent["parts"], where=where)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Take errors of pytest itself."""
        self.reported.errors.append(
            coded(Code.INTERNAL, f"internal error: {str(excrepr).splitlines()[-1]}")
        )

    def _keep(self, report: pytest.TestReport | pytest.CollectReport, *, checked: bool) -> None:
        """Keep a test that no check stands for, an error, and what else a test printed, for the list of the report."""
        outcome = str(report.outcome)  # A plugin of retries has one of its own.
        if report.when != "call" and outcome == "failed":
            outcome = "error"
        if hasattr(report, "wasxfail"):
            outcome = "xfailed" if report.skipped else "xpassed"
        said = (
            report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        )  # Of a skip, the reason.
        blocks = [] if checked or said is None else [str(said)]
        blocks += [f"--- {title} ---\n{content}" for title, content in report.sections]
        text = "\n".join(filter(None, blocks))
        if (text or outcome == "rerun" or not checked) and (
            report.when == "call" or outcome != "passed"
        ):
            text = without_secrets(text)
            name = report.nodeid if len(report.nodeid) <= LONGEST else f"{report.nodeid[:LONGEST]}…"
            self.reported.tests.append(
                OtherTest(writable(name), outcome, writable(shortened(text, MOST)))
            )


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
            raised = (
                not isinstance(getattr(report, "longrepr", ""), str)
                and verdicts
                and verdicts[0].code == Code.TEST
            )
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
    return [
        _verdict(value)
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
    ]


@cache
def _verdict(sent: str) -> Verdict:
    """Return the verdict that travels with a test's report, made once from what is sent."""
    return read_json(Verdict, sent, where="a worker's verdict")
