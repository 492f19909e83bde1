"""The record of a run, by what pytest's work ended with, in each process that judges."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import InputError, reason
from harness.plugin.options import reports_of_config, request_of_config
from harness.plugin.refusals import (
    RUN_ID,
    RUN_STATE,
    command_of,
    reason_of,
    refusal_record,
    run_id_of,
    status_of,
)
from harness.report.owner import Owner, explained, unfinished
from harness.run.handover import RunRecord, new_run_id
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from harness.plugin.run import GateRun
    from harness.run.handover import Handover


def leave_record(config: pytest.Config, handover: Handover) -> Generator[None, Any, int]:
    """Leave the record for the outer process, and return the exit status that it says."""
    return _record_pytests_end(config, partial(_leave, config, handover))


def own_verdict(config: pytest.Config) -> Generator[None, Any, int]:
    """Own the verdict in this process, for want of an outer one, and return the exit status."""
    run_id = new_run_id()
    config.stash[RUN_ID] = run_id
    reports = reports_of_config(config)
    owner = Owner(reports, command_of(config), run_id)
    try:
        owner.take(lambda: request_of_config(config))
        return (yield from _record_pytests_end(config, owner.conclude))
    except (InputError, OSError) as error:
        raise pytest.UsageError(explained(reason(error), reports)) from None
    finally:
        owner.release()


def _record_pytests_end(
    config: pytest.Config, conclude: Callable[[RunRecord], int]
) -> Generator[None, Any, int]:
    """Let pytest work, conclude the run by the record of it, and return the exit status."""
    try:
        status = int((yield) or 0)
    except BaseException as error:
        status = conclude(_record_of_error(config, error))
        if isinstance(error, pytest.UsageError):  # pytest prints it.
            raise
        return status
    return conclude(_record_of_status(config, status))


def _leave(config: pytest.Config, handover: Handover, record: RunRecord) -> int:
    """Leave a record for the outer process, and return its exit status.

    A record that finds no room is replaced by that reason.
    """
    try:
        handover.leave(record)
    except OSError as error:
        cause = error.strerror or error
        why = coded(Code.OUTPUT, f"the record of the run cannot be written: {cause}")
        print(why, file=sys.stderr)
        with suppress(OSError):  # The outer process finds no record.
            handover.leave(refusal_record(config, why))
    return record.status


def _record_of_status(config: pytest.Config, status: int) -> RunRecord:
    """Return the record of a run that pytest ends with this status."""
    run: GateRun | None = config.stash.get(RUN_STATE, None)
    no_verdict = coded(
        Code.PYTEST, f"pytest ended the run with exit status {status} and without a verdict"
    )
    if run is None:
        return refusal_record(config, no_verdict)

    if run.judges and run.output.outcome is None:
        if status != INTERRUPTED or not run.tally.interrupted:
            status = NOT_JUDGED
        reasons = run.tally.errors or [no_verdict]
        return refusal_record(config, *reasons, status=status)

    output = run.output
    return RunRecord(
        run_id_of(config), status, output.report, output.pictures, output.plan, imports.files()
    )


def _record_of_error(config: pytest.Config, error: BaseException) -> RunRecord:
    """Return the record of a run that an exception ends, and print the reason.

    pytest itself prints a `UsageError`, which gets a text for the terminal.
    """
    if isinstance(error, pytest.UsageError):
        why = reason_of(error)
        error.args = (explained(why, reports_of_config(config)),)
    else:
        why = unfinished(error)
        print(why, file=sys.stderr)
    return refusal_record(config, *_errors_so_far(config), why, status=status_of(error))


def _errors_so_far(config: pytest.Config) -> tuple[str, ...]:
    run: GateRun | None = config.stash.get(RUN_STATE, None)
    if run is None:
        return ()
    if run.output.outcome is not None:
        return run.output.outcome.results.errors
    return tuple(run.tally.errors)
