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
    from harness.run.history import History, HistoryLine
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest

_CLOCKS_DIFFER = timedelta(hours=1)
"""Clocks of two machines may differ so much without a remark."""


def expect_to_leave(request: RunRequest) -> None:
    """Raise `InputError` for a named history that takes no line, before the run."""
    path = request.history_path
    if request.history is None or path is None:
        return
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
    """Return the outcome with earlier runs, its attempt, and remarks on unreadable runs."""
    path = request.history_path
    if path is None or request.record is not None:
        return outcome
    try:
        history_of(request, path).expect_own()
        return _with_runs_before(outcome, read_history(path))
    except Exception as error:  # It could be read when the run began; no verdict depends on it.
        remark = f"history: this run leaves no line ({said_of(error)})"
        results = outcome.results
        results = replace(results, remarks=(*results.remarks, remark))
        return replace(outcome, results=results)


def _with_runs_before(outcome: Outcome, before: History) -> Outcome:
    line = line_of(outcome)
    attempt = attempt_of(line, before.lines)
    results = outcome.results
    results = replace(
        results,
        remarks=(*results.remarks, *_remarks_on(before, line)),
        notices=(*results.notices, *_notices_of(attempt)),
    )
    history = replace(before, lines=(*before.lines, line))
    whole = replace(outcome, results=results, history=history, attempt=attempt)
    return replace(whole, history=_shown_history(whole, line))


def _remarks_on(before: History, line: HistoryLine) -> list[str]:
    """Return remarks on unreadable runs, and on runs by a clock that is ahead."""
    remarks = [f"history: {damaged}" for damaged in before.damaged]
    later = sum(earlier.at > line.at + _CLOCKS_DIFFER for earlier in before.lines)
    if later:
        remarks.append(
            f"history: {later} runs are dated after this one; check the clock of this machine"
        )
    return remarks


def _notices_of(attempt: int) -> list[str]:
    """Return a notice on the chance that one of several attempts passes."""
    if attempt <= 1:
        return []
    chance = chance_of_a_pass(attempt)
    return [
        f"attempt {attempt} on this test set: a recipe at the minimum detectable drop passes at "
        f"least one of {attempt} attempts with a probability of {chance:.0%}"
    ]


def _shown_history(outcome: Outcome, line: HistoryLine) -> History:
    """Return the runs that a report shows: the last of the series, the incumbent's and this one."""
    history = outcome.history
    assert history is not None
    shown_lines = [*history.series.get(line.series, ())[-LAST:], line_of_incumbent(outcome), line]
    # By identity: equal lines may be of different runs.
    lines = [line for line in history.lines if any(line is other for other in shown_lines)]
    return replace(history, lines=tuple(lines))
