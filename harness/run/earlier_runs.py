"""The run history as a run reads it: none of it bears upon the verdict."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from harness.base.errors import InputError, OutputError, said_of
from harness.run.history import LAST, attempt_of, chance_of_a_pass, history_of, read_history
from harness.run.history_line import line_of, line_of_incumbent

if TYPE_CHECKING:
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest

_CLOCKS_DIFFER = timedelta(hours=1)
"""Clocks of two machines may differ so much without a remark."""


def expect_to_leave(request: RunRequest) -> None:
    """Raise `InputError` for a history that was named and takes no line.

    Which is better known before a run than after.
    """
    path = request.history_path
    if request.history is not None and path is not None:
        try:
            history_of(request, path).expect_own()
        except InputError as error:
            raise InputError(error.message, setting="history", code=error.code) from None
        read_history(path)
        if path.exists() and not os.access(path, os.W_OK):
            raise OutputError(
                "cannot be written; name another file, or none", setting=f"history {path}"
            )


def with_history(outcome: Outcome, request: RunRequest) -> Outcome:
    """Return the outcome with the earlier runs that its report shows, its attempt, and remarks on unreadable runs."""
    path = request.history_path
    if path is None or request.record is not None:
        return outcome
    remarks = outcome.results.remarks
    try:
        history_of(request, path).expect_own()
        before = read_history(path)
        remarks += tuple(f"history: {line}" for line in before.damaged)
        now = line_of(outcome)
        if late := sum(line.at > now.at + _CLOCKS_DIFFER for line in before.lines):
            remarks += (
                f"history: {late} runs are dated after this one; check the clock of this machine",
            )
        every = replace(before, lines=(*before.lines, now))
        notices, attempt = outcome.results.notices, attempt_of(now, before.lines)
        if attempt > 1:
            notices += (
                f"attempt {attempt} on this test set: a recipe at the minimum detectable drop passes at least one of "
                f"{attempt} attempts with a probability of {chance_of_a_pass(attempt):.0%}",
            )
        results = replace(outcome.results, remarks=remarks, notices=notices)
        whole = replace(outcome, results=results, history=every, attempt=attempt)
        shown = [*every.series.get(now.series, ())[-LAST:], line_of_incumbent(whole), now]
        kept = tuple(line for line in every.lines if any(line is each for each in shown))
        return replace(whole, history=replace(every, lines=kept))
    except Exception as error:  # It could be read when the run began; no verdict depends on it.
        remarks = (*remarks, f"history: this run leaves no line ({said_of(error)})")
        return replace(outcome, results=replace(outcome.results, remarks=remarks))
