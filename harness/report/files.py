"""The files that a run leaves: each complete or not at all, and none of an earlier run."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.files import write_atomically
from harness.run.execute import answer
from harness.run.outcome import PAGE, REPORTS

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.outcome import Outcome

UNFINISHED = "stress.unfinished"
"""The file that is in the folder of the reports as long as a run has no verdict."""


def forget(folder: Path) -> None:
    """Remove the reports of an earlier run, where there are any and they can be removed."""
    for name in REPORTS:
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def begin(folder: Path, *, marked: bool) -> None:
    """Remove the reports of an earlier run, which say nothing of this one; a folder `marked` is so until the verdict.

    Raises `InputError` when the folder cannot be written, which is better known before a run than after.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
        for name in REPORTS:
            (folder / name).unlink(missing_ok=True)
        if marked:
            (folder / UNFINISHED).write_text("A run of the gate has begun, and has not come to a verdict.\n", "utf-8")
        answer(reports=folder)
    except OSError as error:
        raise InputError(not_written(folder, error)) from None


def unmark(folder: Path) -> None:
    """Remove the mark of a run without a verdict."""
    with suppress(OSError):
        (folder / UNFINISHED).unlink(missing_ok=True)


def write_reports(outcome: Outcome, folder: Path) -> None:
    """Write `stress.json` and `stress.md` into the folder, which is then one of a run with a verdict."""
    from harness.report.text import as_json, markdown

    write_atomically(folder / "stress.json", as_json(outcome).encode())
    write_atomically(folder / "stress.md", markdown(outcome).encode())
    unmark(folder)


def write_refusal(outcome: Outcome, folder: Path) -> None:
    """Write all three reports of a run that came to no verdict; one that cannot be written is not left as it was."""
    from harness.report.html import page_of_refusal
    from harness.report.text import as_json, markdown

    forget(folder)  # On a full disk, what stands there now takes the room of what is to be said.
    for name, content in (("stress.json", as_json), ("stress.md", markdown), (PAGE, page_of_refusal)):
        with suppress(OSError):
            write_atomically(folder / name, content(outcome).encode())
            unmark(folder)


def not_written(folder: Path, error: OSError) -> str:
    """Say why reports cannot be written, and what helps."""
    return (
        f"reports cannot be written to {folder}: {error.strerror or error}; "
        "make room there, or name another folder with --stress-reports"
    )
