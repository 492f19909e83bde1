"""End of a run: its exit status and all reports agree, and no copy of a process of the run decides anything."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import InputError, Interruption, code_of, end_copy, lacking, reason, without_secrets, writable
from harness.plugin.sinks import leave
from harness.report.agreement import agreed_verdict
from harness.report.files import not_written, report_file, write_refusal, write_reports
from harness.report.refusal import Refusal
from harness.run.status import INTERRUPTED, NOT_JUDGED, PAGE

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from harness.plugin.run import GateRun
    from harness.run.outcome import Outcome


class TimeKeeper:
    """Limits the time of each test of a gate run, and ends the run after the first that exceeds it."""

    def __init__(self, run: GateRun) -> None:
        self.run = run

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Limit the time in which fixtures load what a test needs."""
        with self.run.limited(item.name):
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Limit the time of the test."""
        with self.run.limited(item.name):
            yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Let no other test wait for a model that hangs, or for what it ran on."""
        if call.excinfo is not None and isinstance(call.excinfo.value, Interruption):
            self.run.hung = True
            item.session.shouldstop = f"{item.name} had no answer"


class Ending:
    """Holds what all others do at the end of a run to what the run says of itself, in each of its processes."""

    def __init__(self, run: GateRun) -> None:
        self.run = run
        self.process = os.getpid()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> None:
        """End a copy of this process that a test made and that came back from it, unless it is to (`--forked`)."""
        if not getattr(item.config.option, "forked", False):
            end_copy(self.process)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """End with 4, and say so in all reports, when something cannot be written: a page, JUnit's file, a line.

        The others have written theirs by then, and may have said `pass`. The record comes last.
        """
        end_copy(self.process)
        try:
            yield
            if self.run.outcome:
                self._settle(session, self.run.outcome)
        except BaseException as error:
            why = unended(error)
            if self.run.outcome or self.run.unfinished:
                refuse(self.run, why)
            if self.run.is_worker or isinstance(error, KeyboardInterrupt | pytest.exit.Exception):
                raise
            pytest.exit(why, returncode=NOT_JUDGED)

    def _settle(self, session: pytest.Session, outcome: Outcome) -> None:
        """Write the reports, now that nothing else is to come."""
        found = int(session.exitstatus)
        if found != outcome.exit_status and not self.run.reported.interrupted:
            session.exitstatus = NOT_JUDGED
            refuse(self.run, _other_status(found, outcome.exit_status))
            return
        if changed := _changed(self.run, outcome):
            session.exitstatus = NOT_JUDGED
            refuse(self.run, changed)
            return
        folder = self.run.request.reports_folder
        try:
            write_reports(outcome, folder, paged=self.run.paged)
        except (OSError, InputError) as error:
            pytest.exit(not_written(folder, error), returncode=NOT_JUDGED)
        self.run.unfinished = False


def settled(run: GateRun, status: int) -> int:
    """Return the exit status of a run that ended with this one: what its reports say, which say why if they must.

    A process that waits for the run gets the status, too.
    """
    outcome = run.outcome
    if run.reported.interrupted and status == INTERRUPTED:
        final = INTERRUPTED
    elif outcome is None:
        final = NOT_JUDGED
        if agreed_verdict(run.request.reports_folder, run=run.run_id) != "error":
            refuse(run, coded(Code.PYTEST, f"pytest ended the run with exit status {status} and without a verdict"))
    elif status != outcome.exit_status:
        final = NOT_JUDGED
        if outcome.verdict != "error":
            refuse(run, _other_status(status, outcome.exit_status))
    elif changed := _changed(run, outcome):
        final = NOT_JUDGED
        refuse(run, changed)
    else:
        final = status
        if run.paged and agreed_verdict(run.request.reports_folder, run=run.run_id) != outcome.verdict:
            final = NOT_JUDGED
            refuse(run, coded(Code.OUTPUT, f"reports in {run.request.reports_folder} are not as this run wrote them"))
    run.settled_status = final
    with suppress(Exception, KeyboardInterrupt):  # No verdict depends on it.
        leave(run)
    run.handover.answer(status=final, code=imports.files())
    return final


def _changed(run: GateRun, outcome: Outcome) -> str:
    """Say which input of the run is not as it was, as another plugin may write until the end; empty if none."""
    if outcome.verdict == "error":
        return ""
    try:
        run.expect_same_inputs()
    except InputError as error:
        return reason(error)
    return ""


def _other_status(found: int, expected: int) -> str:
    return (
        f"[{Code.PYTEST}] the run ended with exit status {found} though its verdict has {expected}, as by another "
        "plugin; run the gate without it"
    )


def unended(error: BaseException) -> str:
    """Return in one line, with its code, why a run came to no end."""
    said = "it was interrupted" if isinstance(error, KeyboardInterrupt) else lacking(error)
    return coded(code_of(error), f"the run came to no end: {said}")


def refuse(run: GateRun, why: str) -> None:
    """Have all reports of a run say that it is inconclusive, and why, whatever they say now."""
    if run.outcome:
        run.outcome = replace(run.outcome, errors=(*run.outcome.errors, why))
    run.unfinished = False
    reasons = run.outcome.errors if run.outcome else (why,)
    models = {role: without_secrets(str(path)) for role, path in run.request.checkpoints.items()}
    data = without_secrets(run.request.data)
    refusal = Refusal(reasons, run.command, run.run_id, run.request.profile, models, data)
    write_refusal(refusal, run.request.reports_folder, begun=run.begun)


def write_page_whole(config: pytest.Config, folder: Path) -> None:
    """Have pytest-html write the run's page as the other files are written; by itself it writes in place.

    The replaced function has no public name; a version without it keeps its own way.
    """

    def write(page: str) -> None:
        try:
            report_file(folder, PAGE).write(writable(page).encode())
        except (OSError, InputError) as error:  # Any other exception would end pytest with 1, for a worse model.
            pytest.exit(not_written(folder, error), returncode=NOT_JUDGED)

    for plugin in config.pluginmanager.get_plugins():
        if hasattr(plugin, "_write_report") and getattr(plugin, "_report_path", None) == folder / PAGE:
            plugin._write_report = write
