"""The files that a run leaves: each complete or not at all, none of an earlier run, and the record last."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.base.errors import InputError, OutputError, printable, writable
from harness.base.files import read_regular
from harness.base.folder_lock import FolderBusyError, held
from harness.base.outputs import MARKER, REPORT_JSON, REPORT_MARKDOWN, REPORT_PAGE, Kind, Output
from harness.base.settings import value_behind
from harness.report.agreement import page_says, run_in
from harness.report.refusal import Refusal, bare_page
from harness.run.status import PAGE, REPORT, REPORTS, SUMMARY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.run.outcome import Outcome

UNFINISHED = "stress.unfinished"
"""The file that is in the folder of the reports as long as a run has no verdict."""


_KINDS = {PAGE: REPORT_PAGE, REPORT: REPORT_JSON, SUMMARY: REPORT_MARKDOWN, UNFINISHED: MARKER}
_WHATEVER = Kind("a report", b"")


def report_file(folder: Path, name: str) -> Output:
    """Return a file of a run in the folder of its reports as an output."""
    return Output(folder / name, _KINDS[name], within=folder)


def forget(folder: Path, *, begun: bool = False) -> None:
    """Remove the reports of an earlier run, where there are any and they can be removed; not those of one that runs.

    In the folder of a run that has `begun`, which had none left, whatever has these names now.
    """
    with suppress(FolderBusyError), held(folder):
        for name in REPORTS:
            with suppress(OSError, InputError):
                (Output(folder / name, _WHATEVER, within=folder) if begun else report_file(folder, name)).remove()


def marker_of(folder: Path) -> dict[str, str]:
    """Return what the marker of an unfinished run says of it: `run`, `process`, `since` and `candidate`."""
    try:
        lines = read_regular(folder / UNFINISHED, max_bytes=1 << 16).decode(errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value for name, colon, value in (line.partition(": ") for line in lines) if colon}


def taken_by(folder: Path, run: str) -> str:
    """Return the id of another run that has the folder by now; empty where none has."""
    marked = marker_of(folder).get("run")
    found = marked or run_in(folder)
    return "" if found == run else found


@contextmanager
def alone_in(folder: Path, *, wait: bool) -> Iterator[None]:
    """Keep other runs out of the folder of the reports until the block ends.

    If another run is there, wait for its end and say so on standard error. Without `wait`, raises `InputError`.
    """

    def say() -> None:
        print(f"{_busy(folder)}; waiting for it to end (no_wait = true: end with 4)", file=sys.stderr, flush=True)

    with suppress(OSError):  # Told when the run begins there.
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder, on_wait=say if wait else None))
        except FolderBusyError:
            advice = "wait for it to end, or name another folder with --stress-reports"
            raise OutputError(f"{_busy(folder)}; {advice}") from None
        yield


def _busy(folder: Path) -> str:
    found = marker_of(folder)
    about = f"process {found.get('process', 'unknown')}, since {found.get('since', 'unknown')}"
    return printable(f"{folder}: another run of the gate writes there: {about}, of {found.get('candidate', 'a model')}")


def begin(folder: Path, *, run: str, candidate: str) -> None:
    """Remove the reports of an earlier run, which say nothing of this one, and mark the folder until the verdict.

    Raises `InputError` when the folder cannot be written, which is better known before a run than after.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        for name in (*REPORTS, UNFINISHED):
            report_file(folder, name).remove()
        said = {"run": run, "process": os.getpid(), "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"}
        lines = [f"{name}: {printable(value)}" for name, value in {**said, "candidate": candidate}.items()]
        text = "\n".join(["A run of the gate has begun, and has no verdict yet.", *lines, ""])
        report_file(folder, UNFINISHED).write(writable(text).encode())
    except OSError as error:
        raise OutputError(not_written(folder, error)) from None


def unmark(folder: Path) -> None:
    """Remove the mark of a run without a verdict."""
    with suppress(OSError, InputError):
        report_file(folder, UNFINISHED).remove()


def write_reports(outcome: Outcome, folder: Path, *, paged: bool = False) -> None:
    """Write the summary and, last, the record; of a `paged` run a bare page between them, if it has none yet.

    A crash between them leaves no record, so none says `pass`. Raises `InputError` where another run has the folder.
    """
    from harness.report.text import as_json, markdown

    if other := taken_by(folder, outcome.run):
        raise OutputError(f"run {other} has taken the folder meanwhile")
    record, summary = as_json(outcome), markdown(outcome)
    report_file(folder, SUMMARY).write(writable(summary).encode())
    if paged and not page_says(folder, run=outcome.run, verdict=outcome.verdict):
        report_file(folder, PAGE).write(writable(_bare_page_of(outcome, folder)).encode())
    report_file(folder, REPORT).write(record.encode())
    unmark(folder)


def _bare_page_of(outcome: Outcome, folder: Path) -> str:
    """Return the page of a run for which pytest-html wrote none."""
    from harness.report.headline import sentence
    from harness.report.text import summary_lines

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
    """Write all three reports of a run without a verdict; one that cannot be written is not left as it was.

    Another run that has the folder keeps its reports.
    """
    if refusal.run and taken_by(folder, refusal.run):
        return
    # Without memory there is no report at all, and none that says `pass`.
    with suppress(Exception, FolderBusyError), held(folder):
        forget(folder, begun=begun)  # On a full disk, what stands there now takes the room of new reports.
        for name, content in refusal.contents().items():
            try:
                report_file(folder, name).write(content)
                unmark(folder)
            except OSError:
                if name == REPORT:  # The other reports never stand without the record.
                    return
            except InputError:
                pass


def refuse_command(arguments: Sequence[str], reason: str) -> None:
    """Write the reports of a command line whose run could not be started."""
    folder = Path(value_behind(arguments, "--stress-reports") or "reports")
    write_refusal(Refusal([reason], ["pytest", *arguments]), folder)


def not_written(folder: Path, error: OSError | InputError) -> str:
    """Say why reports cannot be written, and what helps."""
    return (
        f"[{Code.OUTPUT}] reports cannot be written to {folder}: {getattr(error, 'strerror', None) or error}; "
        "make room there, or name another folder with --stress-reports"
    )
