"""How a run ends: what is not written down whole is no verdict, and a copy of a process of the run has no say."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import Interruption, end_copy, printable
from harness.base.files import write_atomically
from harness.plugin.sinks import leave
from harness.report.files import not_written, write_refusal, write_reports
from harness.run.execute import answer
from harness.run.outcome import NOT_JUDGED, PAGE, Outcome
from harness.run.reported import refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from harness.plugin.run import GateRun


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

        The others have written theirs by then, and may have said `pass`.
        """
        end_copy(self.process)
        try:
            yield
        except BaseException as error:
            if self.run.outcome or self.run.unfinished:
                refuse(self.run, f"the run came to no end: {_said(error)}")
            if self.run.is_worker or isinstance(error, KeyboardInterrupt | pytest.exit.Exception):
                raise
            pytest.exit(f"the run came to no end: {error!r}", returncode=NOT_JUDGED)
        if self.run.outcome and session.exitstatus in {self.run.outcome.exit_status, NOT_JUDGED}:
            answer(status=int(session.exitstatus))
            leave(self.run)


def _said(error: BaseException) -> str:
    return "it was interrupted" if isinstance(error, KeyboardInterrupt) else printable(error) or repr(error)


def refuse(run: GateRun, reason: str) -> None:
    """Have all reports of a run say that it could not judge, and why, whatever they say now."""
    if run.outcome:
        run.outcome = replace(run.outcome, errors=(*run.outcome.errors, reason))
    run.unfinished = False
    write_refusal(run.outcome or refusal_of(run.request, [reason], command=run.command), run.request.reports_folder)


def write_files(outcome: Outcome, folder: Path) -> None:
    """Write `stress.json` and `stress.md`; when that fails, end the run as one that could not judge."""
    _or_exit(folder, lambda: write_reports(outcome, folder))


def write_page_whole(config: pytest.Config, folder: Path) -> None:
    """Have pytest-html write the run's page as the other files are written; by itself it writes in place.

    What is replaced has no public name; a version without it writes as it does.
    """

    def write(page: str) -> None:
        _or_exit(folder, lambda: write_atomically(folder / PAGE, page.encode()))

    for plugin in config.pluginmanager.get_plugins():
        if hasattr(plugin, "_write_report") and getattr(plugin, "_report_path", None) == folder / PAGE:
            plugin._write_report = write


def _or_exit(folder: Path, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:  # Here, any other exception would end pytest with 1, as if the model were worse.
        pytest.exit(not_written(folder, error), returncode=NOT_JUDGED)
