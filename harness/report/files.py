"""The files that a run leaves: each complete or not at all, none of an earlier run, and the record last."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, writable
from harness.base.outputs import MARKER, REPORT_JSON, REPORT_MARKDOWN, REPORT_PAGE, Kind, Output
from harness.base.settings import value_behind
from harness.report.agreement import page_says
from harness.report.refusal import Refusal, bare_page
from harness.run.status import PAGE, REPORT, REPORTS, SUMMARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.outcome import Outcome

UNFINISHED = "stress.unfinished"
"""The file that is in the folder of the reports as long as a run has no verdict."""


_KINDS = {PAGE: REPORT_PAGE, REPORT: REPORT_JSON, SUMMARY: REPORT_MARKDOWN, UNFINISHED: MARKER}
_WHATEVER = Kind("a report", b"")


def report_file(folder: Path, name: str) -> Output:
    """Return a file of a run in the folder of its reports as an output."""
    return Output(folder / name, _KINDS[name], within=folder)


def forget(folder: Path, *, begun: bool = False) -> None:
    """Remove the reports of an earlier run, where there are any and they can be removed.

    In the folder of a run that has `begun`, which had none left, whatever has these names now.
    """
    for name in REPORTS:
        with suppress(OSError, InputError):
            (Output(folder / name, _WHATEVER, within=folder) if begun else report_file(folder, name)).remove()


def begin(folder: Path, *, marked: bool) -> None:
    """Remove the reports of an earlier run, which say nothing of this one; a folder `marked` is so until the verdict.

    Raises `InputError` when the folder cannot be written, which is better known before a run than after.
    """
    from harness.run.execute import answer

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        for name in (*REPORTS, UNFINISHED):
            report_file(folder, name).remove()
        if marked:
            report_file(folder, UNFINISHED).write(b"A run of the gate has begun, and has not come to a verdict.\n")
        answer(reports=folder)
    except OSError as error:
        raise InputError(not_written(folder, error)) from None


def unmark(folder: Path) -> None:
    """Remove the mark of a run without a verdict."""
    with suppress(OSError, InputError):
        report_file(folder, UNFINISHED).remove()


def write_reports(outcome: Outcome, folder: Path, *, paged: bool = False) -> None:
    """Write the summary and, last, the record; of a `paged` run a bare page between them, if it has none yet.

    A crash between them leaves no record, so none says `pass`.
    """
    from harness.report.text import as_json, markdown

    record, summary = as_json(outcome), markdown(outcome)
    report_file(folder, SUMMARY).write(writable(summary).encode())
    if paged and not page_says(folder, run=outcome.run, verdict=outcome.verdict):
        report_file(folder, PAGE).write(writable(_bare_page_of(outcome, folder)).encode())
    report_file(folder, REPORT).write(record.encode())
    unmark(folder)


def _bare_page_of(outcome: Outcome, folder: Path) -> str:
    """Return the page of a run for which pytest-html wrote none."""
    from harness.report.text import summary_lines
    from harness.report.wording import sentence

    why = f"pytest-html wrote no page of this run, so figures are left out. {REPORT} has all numbers."
    return bare_page(
        run=outcome.run,
        verdict=outcome.verdict,
        sentence=sentence(outcome),
        headline=outcome.headline,
        said=[why, *summary_lines(outcome, folder)],
        facts={"reproduce": outcome.command},
    )


def write_refusal(refusal: Refusal, folder: Path, *, begun: bool = False) -> None:
    """Write all three reports of a run without a verdict; one that cannot be written is not left as it was."""
    forget(folder, begun=begun)  # On a full disk, what stands there now takes the room of what is to be said.
    with suppress(Exception):  # Without memory there is no report at all, and none that says `pass`.
        for name, content in refusal.contents().items():
            with suppress(OSError, InputError):
                report_file(folder, name).write(content)
                unmark(folder)


def refuse_command(arguments: Sequence[str], reason: str) -> None:
    """Write the reports of a command line whose run could not be started."""
    folder = Path(value_behind(arguments, "--stress-reports") or "reports")
    write_refusal(Refusal([reason], ["pytest", *arguments]), folder)


def not_written(folder: Path, error: OSError | InputError) -> str:
    """Say why reports cannot be written, and what helps."""
    return (
        f"reports cannot be written to {folder}: {getattr(error, 'strerror', None) or error}; "
        "make room there, or name another folder with --stress-reports"
    )
