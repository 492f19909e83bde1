"""The mark of a run in its reports, and the verdict that all three carry; it needs the standard library alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness.base.files import read_regular
from harness.run.status import PAGE, REPORT, SUMMARY

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 30


def mark_of_summary(run: str, verdict: str) -> str:
    """Return the line of `stress.md` that names the run and its verdict."""
    return f"- run: `{run}`, verdict `{verdict}`"


def mark_of_page(run: str, verdict: str) -> str:
    """Return the attributes of an element of `stress.html` that name the run and its verdict."""
    return f'data-run="{run}" data-verdict="{verdict}"'


def page_says(folder: Path, *, run: str, verdict: str) -> bool:
    """Return whether `stress.html` is of this run and has this verdict."""
    return _holds(folder / PAGE, mark_of_page(run, verdict))


def run_in(folder: Path) -> str:
    """Return the id of the run in `stress.json`; empty without one."""
    try:
        return str(json.loads(read_regular(folder / REPORT, max_bytes=_MAX_BYTES))["run"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def agreed_verdict(folder: Path, *, run: str = "") -> str:
    """Return the verdict that all three reports of this run, or any run, carry; empty if one is missing or differs."""
    try:
        report = json.loads(read_regular(folder / REPORT, max_bytes=_MAX_BYTES))
        found, verdict = str(report["run"]), str(report["verdict"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    if run not in {"", found}:
        return ""
    told = _holds(folder / SUMMARY, mark_of_summary(found, verdict)) and page_says(folder, run=found, verdict=verdict)
    return verdict if told else ""


def _holds(path: Path, mark: str) -> bool:
    try:
        return mark.encode() in read_regular(path, max_bytes=_MAX_BYTES)
    except OSError:
        return False
