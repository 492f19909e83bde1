"""The files that a run leaves: each complete or not at all, and a run that cannot write them ends with 4."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from harness.errors import InputError
from harness.run.outcome import NOT_JUDGED, Outcome
from harness.store.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = "stress.html"


def require_writable(folder: Path) -> None:
    """Raise `InputError` when no file can be written into the folder, which is better known before a run than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(_told(folder, error)) from None


def write_files(outcome: Outcome, folder: Path) -> None:
    """Write `stress.json` and `stress.md`; when that fails, end the run as one that could not judge."""
    from harness.report import write_reports

    _or_exit(folder, lambda: write_reports(outcome, folder))


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
