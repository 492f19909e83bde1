"""The end of pytest before a run begins, by a wrong option, a `conftest.py` or another plugin.

This module needs no package besides pytest.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from harness.plugin.invocation import caller_of, handover_to, judges
from harness.plugin.refusals import (
    BEGUN,
    command_of,
    reason_of,
    refusal_record,
    status_of,
    typed_reports_folder,
)
from harness.report.refusal import refuse_unbegun

if TYPE_CHECKING:
    from harness.run.handover import Handover


def refuse_early_end(config: pytest.Config) -> None:
    """Refuse the run if an exception ends pytest now, and the run has not begun.

    Raises `UsageError` where pytest would end with another exit status than 4.
    """
    error = sys.exception()
    if error is None or BEGUN in config.stash:
        return
    if hasattr(config, "workerinput"):  # The controller reports what ends a worker.
        return

    handover = handover_to(config)
    if handover is not None:
        _leave_refusal(config, handover, error)
    elif judges(config):
        _refuse_reports(config, error)
        _end_with_4(error)


def _leave_refusal(config: pytest.Config, handover: Handover, error: BaseException) -> None:
    """Leave the reason for the outer process, which takes the exit status from that record."""
    reason = reason_of(error)
    with suppress(OSError):  # The outer process then says that there is no record.
        handover.leave(refusal_record(config, reason, status=status_of(error)))
    if not _pytest_prints(error):
        print(f"ERROR: {reason}", file=sys.stderr)


def _refuse_reports(config: pytest.Config, error: BaseException) -> None:
    """Have the reports say the reason, since the process that owns them is this one."""
    # A run that holds the folder goes on, and its reports are not ours to replace.
    refuse_unbegun(typed_reports_folder(config), command_of(config), reason_of(error), wait=False)
    caller = caller_of(config)
    if caller is not None:
        caller.refused = True


def _end_with_4(error: BaseException) -> None:
    """Have pytest end with 4: alone, it ends with 1 or 3, or as a call of `sys.exit` says."""
    reason = reason_of(error)
    if isinstance(error, pytest.UsageError):
        error.args = (reason,)
    elif not isinstance(error, KeyboardInterrupt) and not _pytest_prints(error):
        raise pytest.UsageError(reason)


def _pytest_prints(error: BaseException) -> bool:
    """Return whether pytest itself prints an error and ends with 4."""
    # pytest's class for errors in a `conftest.py` is private.
    return isinstance(error, pytest.UsageError) or type(error).__name__ == "ConftestImportFailure"
