"""Thresholds: rows read from TOML, and the verdicts that they give, a plain comparison."""

from harness.gates.file import GatesFile, read_gates
from harness.gates.keys import Key, Share, one_of
from harness.gates.rows import Bound, Gate, GatesError
from harness.gates.verdicts import Verdict

__all__ = ["Bound", "Gate", "GatesError", "GatesFile", "Key", "Share", "Verdict", "one_of", "read_gates"]
