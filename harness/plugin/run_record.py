"""The record of a run, by what pytest's work ended with, in each process that judges."""

from __future__ import annotations

import sys
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
    refusing_record,
    run_id_of,
    status_of,
)
from harness.report.owner import Owner, explained, unfinished
from harness.run.handover import RunRecord, new_run_id
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.plugin.run import GateRun
    from harness.run.handover import Handover


def leave_record(config: pytest.Config, handover: Handover) -> Generator[None, Any, int]:
    """Leave the record for the outer process, and return the exit status that it says."""
    try:
        status = int((yield) or 0)
    except BaseException as error:
        record = _record_of_error(config, error)
        _leave(config, handover, record)
        if isinstance(error, pytest.UsageError):  # pytest prints it.
            raise
        return record.status

    record = _record_of_status(config, status)
    _leave(config, handover, record)
    return record.status


def own_verdict(config: pytest.Config) -> Generator[None, Any, int]:
    """Own the verdict in this process, which no outer process survives."""
    run_id = new_run_id()
    config.stash[RUN_ID] = run_id
    reports = reports_of_config(config)
    owner = Owner(reports, command_of(config), run_id)
    try:
        owner.take(lambda: request_of_config(config))
        return (yield from _conclude(config, owner))
    except (InputError, OSError) as error:
        raise pytest.UsageError(explained(reason(error), reports)) from None
    finally:
        owner.release()


def _conclude(config: pytest.Config, owner: Owner) -> Generator[None, Any, int]:
    try:
        status = int((yield) or 0)
    except BaseException as error:
        status = owner.conclude(_record_of_error(config, error))
        if isinstance(error, pytest.UsageError):
            raise
        return status
    return owner.conclude(_record_of_status(config, status))


def _leave(config: pytest.Config, handover: Handover, record: RunRecord) -> None:
    """Leave a record for the outer process; one that finds no room is replaced by that reason."""
    try:
        handover.leave(record)
    except OSError as error:
        cause = error.strerror or error
        why = coded(Code.OUTPUT, f"the record of the run cannot be written: {cause}")
        print(why, file=sys.stderr)
        try:
            handover.leave(refusing_record(config, why))
        except OSError:
            return  # The outer process finds none.


def _record_of_status(config: pytest.Config, status: int) -> RunRecord:
    """Return the record of a run that pytest ends with this status."""
    run: GateRun | None = config.stash.get(RUN_STATE, None)
    no_verdict = coded(
        Code.PYTEST, f"pytest ended the run with exit status {status} and without a verdict"
    )
    if run is None:
        return refusing_record(config, no_verdict)

    if run.judges and run.output.outcome is None:
        interrupted = status == INTERRUPTED and run.reported.interrupted
        reasons = run.reported.errors or [no_verdict]
        return refusing_record(config, *reasons, status=INTERRUPTED if interrupted else NOT_JUDGED)

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
    return refusing_record(config, *_errors_so_far(config), why, status=status_of(error))


def _errors_so_far(config: pytest.Config) -> tuple[str, ...]:
    run: GateRun | None = config.stash.get(RUN_STATE, None)
    if run is None:
        return ()
    if run.output.outcome is not None:
        return run.output.outcome.results.errors
    return tuple(run.reported.errors)
