"""How a run ends: what is not written down whole is no verdict, and a copy of a process of the run has no say."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import end_copy, printable
from harness.plugin.reports import write_refusal
from harness.plugin.sinks import leave
from harness.run.execute import answer
from harness.run.outcome import NOT_JUDGED
from harness.run.reported import refusal_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.plugin.run import GateRun


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
