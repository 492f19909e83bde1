"""Thresholds: typed rows read from TOML, and the verdicts they give. All statistics live in calibration."""

from harness.gates.file import GatesFile, read_gates
from harness.gates.verdicts import Bound, Gate, GatesError, Verdict

__all__ = ["Bound", "Gate", "GatesError", "GatesFile", "Verdict", "read_gates"]
