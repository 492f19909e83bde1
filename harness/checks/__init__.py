"""Checks read from TOML, and their verdicts: each compares a measurement with a threshold."""

from harness.checks.check import Check, Verdict
from harness.checks.file import ChecksFile, read_checks
from harness.checks.rows import ChecksError, Key, Share, Threshold, one_of

__all__ = ["Check", "ChecksError", "ChecksFile", "Key", "Share", "Threshold", "Verdict", "one_of", "read_checks"]
