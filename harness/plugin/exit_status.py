"""End of a run: its reports become those of its outcome, if that has the status with which the process ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.base.codes import Code, coded
from harness.base.errors import InputError, code_of, end_copy, lacking, reason, writable
from harness.base.termination import ended_by
from harness.plugin.claim import refuse
from harness.report.refusal import bare_page, mark_of_page
from harness.run.status import INTERRUPTED, NOT_JUDGED, PAGE, REPORT, SUMMARY

if TYPE_CHECKING:
    import signal

    from harness.plugin.run import GateRun
    from harness.report.refusal import Claim
    from harness.run.outcome import Outcome


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
            claim.publish(_reports(run, outcome, claim), status)
        except (Exception, KeyboardInterrupt) as error:  # A package that is broken raises anything.
            why = reason(error) if isinstance(error, InputError) else unended(error)
            print(why, file=sys.stderr)
        else:
            return status
    refuse(claim, *outcome.errors, why)
    return final


def _reports(run: GateRun, outcome: Outcome, claim: Claim) -> dict[str, bytes]:
    from harness.report.text import as_json, markdown

    whole = mark_of_page(outcome.run, outcome.verdict) in run.page
    page = run.page if whole else _bare_page(outcome, claim)
    made = {PAGE: page, SUMMARY: markdown(outcome), REPORT: as_json(outcome)}
    return {name: writable(content).encode() for name, content in made.items()}


def _bare_page(outcome: Outcome, claim: Claim) -> str:
    """Return the page of a run for which pytest-html wrote none."""
    from harness.report.diagnosis import diagnose
    from harness.report.text import summary_lines

    why = f"pytest-html wrote no page of this run, so figures are left out. {REPORT} has all numbers."
    return bare_page(
        run=outcome.run,
        verdict=outcome.verdict,
        sentence=diagnose(outcome).sentence,
        headline=outcome.headline,
        said=[why, *summary_lines(outcome, claim.folder)],
        facts={"reproduce": outcome.command},
    )


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


def keep_page(run: GateRun) -> None:
    """Have pytest-html hand over the run's page, which it would write in place, before the run has ended.

    The replaced function has no public name; a version without it keeps its own way.
    """
    place = run.request.reports_folder / PAGE
    for plugin in run.config.pluginmanager.get_plugins():
        if hasattr(plugin, "_write_report") and getattr(plugin, "_report_path", None) == place:
            plugin._write_report = lambda page: setattr(run, "page", page)
