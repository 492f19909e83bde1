"""The end of pytest's work in a process that judges: the record of the run, by what pytest ended with."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import InputError, reason
from harness.plugin.options import reports_of_config, request_of_config
from harness.plugin.refusing import (
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

    from harness.run.handover import Handover


def ended_inner(config: pytest.Config, handover: Handover) -> Generator[None, Any, int]:
    """Leave the record for the outer process, and return the exit status that it says."""
    try:
        status = int((yield) or 0)
    except BaseException as error:
        record = _refused(config, error)
        _leave(config, handover, record)
        if isinstance(error, pytest.UsageError):  # pytest says it.
            raise
        return record.status
    record = _record_of(config, status)
    _leave(config, handover, record)
    return record.status


def ended_in_place(config: pytest.Config) -> Generator[None, Any, int]:
    """Own the verdict in this process, which nothing outlives."""
    config.stash[RUN_ID] = run = new_run_id()
    owner = Owner(reports_of_config(config), command_of(config), run)
    try:
        owner.take(lambda: request_of_config(config))
        try:
            status = int((yield) or 0)
        except BaseException as error:
            status = owner.conclude(_refused(config, error))
            if isinstance(error, pytest.UsageError):
                raise
            return status
        return owner.conclude(_record_of(config, status))
    except (InputError, OSError) as error:
        raise pytest.UsageError(explained(reason(error), reports_of_config(config))) from None
    finally:
        owner.release()


def _leave(config: pytest.Config, handover: Handover, record: RunRecord) -> None:
    """Leave a record for the outer process; one that finds no room is replaced by that reason."""
    try:
        handover.leave(record)
    except OSError as error:
        why = coded(
            Code.OUTPUT, f"the record of the run cannot be written: {error.strerror or error}"
        )
        print(why, file=sys.stderr)
        try:
            handover.leave(refusing_record(config, why))
        except OSError:
            return  # The outer process finds none.


def _record_of(config: pytest.Config, status: int) -> RunRecord:
    """Return the record of a run that pytest ends with this status."""
    run = config.stash.get(RUN_STATE, None)
    ended = f"[{Code.PYTEST}] pytest ended the run with exit status {status} and without a verdict"
    if run is None:
        return refusing_record(config, ended)
    if not run.judges:
        return RunRecord(run_id_of(config), status, plan=run.plan, code=imports.files())
    if run.outcome is None:
        reasons = run.reported.errors or [ended]
        interrupted = status == INTERRUPTED and run.reported.interrupted
        return refusing_record(config, *reasons, status=INTERRUPTED if interrupted else NOT_JUDGED)
    return RunRecord(
        run_id_of(config), status, run.report, run.report_pictures, code=imports.files()
    )


def _refused(config: pytest.Config, error: BaseException) -> RunRecord:
    """Return the record of a run that an exception ends, and say so; a `UsageError` gets the words for a reader."""
    run = config.stash.get(RUN_STATE, None)
    known = run.outcome.results.errors if run and run.outcome else ()
    if isinstance(error, pytest.UsageError):
        why = reason_of(error)
        error.args = (explained(why, reports_of_config(config)),)
        return refusing_record(config, *known, why, status=status_of(error))
    why = unfinished(error)
    print(why, file=sys.stderr)
    return refusing_record(config, *known, why, status=status_of(error))
