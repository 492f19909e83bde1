"""Thresholds: rows read from TOML, and the verdicts that they give, a plain comparison."""

from harness.checks.file import ChecksFile, read_checks
from harness.checks.keys import Key, Share, one_of
from harness.checks.rows import Check, ChecksError, Threshold
from harness.checks.verdicts import Verdict

__all__ = ["Check", "ChecksError", "ChecksFile", "Key", "Share", "Threshold", "Verdict", "one_of", "read_checks"]
