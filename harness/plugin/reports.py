"""The files that a run leaves: each complete or not at all, and a run that cannot write them ends with 4."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import InputError
from harness.base.files import write_atomically
from harness.run.execute import answer
from harness.run.outcome import NOT_JUDGED, PAGE, REPORTS, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UNFINISHED = "stress.unfinished"
"""The file that is in the folder of the reports as long as a run has no verdict."""


def require_writable(folder: Path) -> None:
    """Raise `InputError` when no file can be written into the folder, which is better known before a run than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(_told(folder, error)) from None


def forget(folder: Path) -> None:
    """Remove the reports of an earlier run, where there are any and they can be removed."""
    for name in REPORTS:
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def begin(folder: Path, *, marked: bool) -> None:
    """Remove the reports of an earlier run, which say nothing of this one; a folder `marked` is so until the verdict.

    Raises `InputError` when the folder cannot be written, which is better known before a run than after.
    """
    require_writable(folder)
    try:
        for name in REPORTS:
            (folder / name).unlink(missing_ok=True)
        if marked:
            (folder / UNFINISHED).write_text("A run of the gate has begun, and has not come to a verdict.\n", "utf-8")
        answer(reports=folder)
    except OSError as error:
        raise InputError(_told(folder, error)) from None


def write_files(outcome: Outcome, folder: Path) -> None:
    """Write `stress.json` and `stress.md`; when that fails, end the run as one that could not judge."""
    from harness.report import write_reports

    _or_exit(folder, lambda: write_reports(outcome, folder))
    unmark(folder)


def unmark(folder: Path) -> None:
    """Remove the mark of a run without a verdict."""
    with suppress(OSError):
        (folder / UNFINISHED).unlink(missing_ok=True)


def write_refusal(outcome: Outcome, folder: Path) -> None:
    """Write all three reports of a run that came to no verdict; one that cannot be written is not left as it was."""
    from harness.report.html import page_of_refusal
    from harness.report.text import as_json, markdown

    forget(folder)  # On a full disk, what stands there now takes the room of what is to be said.
    for name, content in (("stress.json", as_json), ("stress.md", markdown), (PAGE, page_of_refusal)):
        with suppress(OSError):
            write_atomically(folder / name, content(outcome).encode())
            unmark(folder)


def write_page_whole(config: pytest.Config, folder: Path) -> None:
    """Have pytest-html write the run's page as the other files are written; by itself it writes in place.

    What is replaced has no public name; a version without it writes as it does.
    """

    def write(page: str) -> None:
        _or_exit(folder, lambda: write_atomically(folder / PAGE, page.encode()))

    for plugin in config.pluginmanager.get_plugins():
        if hasattr(plugin, "_write_report") and getattr(plugin, "_report_path", None) == folder / PAGE:
            plugin._write_report = write


def _or_exit(folder: Path, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:  # Here, any other exception would end pytest with 1, as if the model were worse.
        pytest.exit(_told(folder, error), returncode=NOT_JUDGED)


def _told(folder: Path, error: OSError) -> str:
    return (
        f"reports cannot be written to {folder}: {error.strerror or error}; "
        "make room there, or name another folder with --stress-reports"
    )
