"""Checks read from TOML, and their verdicts: each compares a measurement with a threshold."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.checks.check import Check, Verdict
    from harness.checks.file import ChecksFile, read_checks
    from harness.checks.rows import ChecksError, Key, Share, Threshold, one_of

__all__ = [
    "Check",
    "ChecksError",
    "ChecksFile",
    "Key",
    "Share",
    "Threshold",
    "Verdict",
    "one_of",
    "read_checks",
]

_MODULES = {
    "check": ("Check", "Verdict"),
    "file": ("ChecksFile", "read_checks"),
    "rows": ("ChecksError", "Key", "Share", "Threshold", "one_of"),
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use.

    The settings of a run are read without NumPy, which checks need.
    """
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
