"""The tests' reports, gathered in the controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.gates import Verdict
from harness.plugin.pictures import PICTURES, PictureBook
from harness.plugin.run import PROPERTY
from harness.run.outcome import SelfCheck
from harness.run.overview import Overview
from harness.store.records import read_json

if TYPE_CHECKING:
    from harness.plugin.run import GateRun


class Collector:
    """Gathers the tests' reports in the controller, whichever process they ran in."""

    def __init__(self, run: GateRun) -> None:
        self.run = run
        self.book = PictureBook(run.command, run.options.reports)
        self._tests: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's verdict and pictures, and errors that have no verdict."""
        self.run.has_gates |= "gate" in report.keywords
        wires: list[Any] = [value for name, value in report.user_properties if name == PROPERTY]
        made: list[Any] = [value for name, value in report.user_properties if name == PICTURES]
        for wire in wires:
            verdict = Verdict.from_wire(wire)
            self._expect_one_test(verdict.gate.id, report.nodeid)
            self.run.verdicts[verdict.gate.id] = verdict
            if verdict.status == "error":
                self.run.errors.append(verdict.explain())
            for shown in made:
                self.book.illustrate(report, verdict, shown)
                if verdict.status == "fail" and shown["pictures"]:
                    self.run.examples[verdict.gate.id] = shown["pictures"][0]
        if report.failed and not wires:
            self._take_failure(report)

    def _expect_one_test(self, row: str, nodeid: str) -> None:
        if (other := self._tests.setdefault(row, nodeid)) != nodeid:
            self.run.errors.append(
                f"{row}: two tests have a verdict of this name, {other} and {nodeid}; name a metric in their "
                "`@gate(family, metric=...)`, a family of its own for one, or the row otherwise"
            )

    def _take_failure(self, report: pytest.TestReport) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash else str(report.longrepr)
        if report.when == "call" and message.startswith(("AssertionError", "assert ")):
            self.run.failed_tests.append(report.nodeid)
        else:
            self.run.errors.append(f"{report.nodeid}: {message.splitlines()[0] if message else 'failed'}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take errors of test files that cannot be imported."""
        if report.failed:
            self.run.errors.append(f"{report.nodeid}: cannot be collected: {str(report.longrepr).splitlines()[-1]}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from a stop after collection errors or `--maxfail`, which pytest and xdist derive from it."""
        self.run.interrupted = type(excinfo.value) in (KeyboardInterrupt, pytest.exit.Exception)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take the self-checks and the overview of the workers that made them, and the death of one that died."""
        if error:
            self.run.errors.append(f"worker {node.gateway.id} died: {error}")
        sent = getattr(node, "workeroutput", {})
        self.run.self_checks += tuple(
            read_json(SelfCheck, check, where="a self-check") for check in sent.get("self_checks", [])
        )
        if sent.get("overview"):
            self.run.overview = Overview.from_wire(sent["overview"])
        self.run.overview_missing += sent.get("overview_missing", "")

    def pytest_internalerror(self, excrepr: object) -> None:
        """Take errors of pytest itself."""
        self.run.errors.append(f"internal error: {str(excrepr).splitlines()[-1]}")
