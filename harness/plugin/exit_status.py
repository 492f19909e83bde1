"""End of a run: its reports become those of its outcome, if that has the status with which the process ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.base.codes import Code, coded
from harness.base.errors import InputError, code_of, end_copy, lacking, reason
from harness.base.termination import ended_by
from harness.plugin.claim import refuse
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    import signal

    from harness.plugin.run import GateRun
    from harness.report.refusal import Claim


def concluded(run: GateRun, claim: Claim, status: int) -> int:
    """Publish the outcome of a run that ends with this status, or refuse the run; return the exit status."""
    end_copy(claim.process)
    final = INTERRUPTED if status == INTERRUPTED and run.reported.interrupted else NOT_JUDGED
    outcome = run.outcome
    if outcome is None:
        ended = f"[{Code.PYTEST}] pytest ended the run with exit status {status} and without a verdict"
        refuse(claim, *(run.reported.errors or [ended]))
        return final
    why = ""
    if status != outcome.exit_status and final != INTERRUPTED:
        why = (
            f"[{Code.PYTEST}] the run ended with exit status {status} though its verdict has {outcome.exit_status}, as "
            "by another plugin; run the gate without it"
        )
    elif outcome.verdict != "error":
        try:
            run.expect_same_inputs()  # Another plugin may write until the end.
        except InputError as error:
            why = reason(error)
    if not why:
        try:
            claim.publish(run.reports, status)
        except (Exception, KeyboardInterrupt) as error:  # A package that is broken raises anything.
            why = reason(error) if isinstance(error, InputError) else unended(error)
            print(why, file=sys.stderr)
        else:
            return status
    refuse(claim, *outcome.errors, why)
    return final


def unended(error: BaseException) -> str:
    """Return in one line, with its code, why a run came to no end."""
    said = "it was interrupted" if isinstance(error, KeyboardInterrupt) else lacking(error)
    return coded(code_of(error), f"the run came to no end: {said}")


def end_at_once(run: GateRun, claim: Claim, number: signal.Signals) -> None:
    """End the process of a run with 4, since a signal asks for it; one that has an outcome ends with its status."""
    if claim.published is None:
        with suppress(Exception):
            refuse(claim, ended_by(number))
            run.handover.answer(status=NOT_JUDGED)
            if capture := run.config.pluginmanager.getplugin("capturemanager"):
                capture.suspend_global_capture()
            print(f"\nERROR: {ended_by(number)}", file=sys.stderr, flush=True)
            sys.stdout.flush()
    os._exit(NOT_JUDGED if claim.published is None else claim.published)
