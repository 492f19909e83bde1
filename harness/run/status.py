"""Exit statuses of the gate and the files of its reports; it needs the standard library alone."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING, Any

from harness.base.files import read_regular

if TYPE_CHECKING:
    from pathlib import Path

PASSED, WORSE, INTERRUPTED, NOT_JUDGED = 0, 1, 2, 4
"""Exit statuses; "worse" and "inconclusive" never share one."""
PAGE, SUMMARY, REPORT = "stress.html", "stress.md", "stress.json"
REPORTS = (PAGE, REPORT, SUMMARY)
"""The files of a report: the page for people, the record for tools, the summary for a pull request.
"""
PICTURES = "stress"
"""The folder beside the record with the pictures that it names."""
SCHEMA = 2
"""The schema of `stress.json`."""
INCONCLUSIVE = "ERROR: the run is inconclusive"
"""The headline of a run without a verdict."""
MEANING = f"exit status {NOT_JUDGED}: inconclusive; this run says nothing about the candidate"
"""The line that explains the exit status of a run without a verdict."""
MAX_BYTES = 1 << 30
"""Size of the largest `stress.json`."""
_PACKAGES = {"torch": "torch", "hypothesis": "hypothesis", "harness": "stress-harness"}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a report names, if they are installed.

    These are libraries, and packages that add features.
    """
    found = {"python": platform.python_version()}
    for name, package in _PACKAGES.items():
        with suppress(PackageNotFoundError):
            found[name] = version(package)
    for point in entry_points(group="stress_harness"):
        if point.dist is not None:
            found[point.dist.name] = point.dist.version
    return found


def report_in(folder: Path) -> dict[str, Any]:
    """Return the content of the folder's `stress.json`; empty where it cannot be read."""
    try:
        found = json.loads(read_regular(folder / REPORT, max_bytes=MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
