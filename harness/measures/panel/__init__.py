"""Reference panel in a run: its predictions, consensus-set errors, suspected label errors and paired incumbents."""

from harness.measures.panel.consensus import CONSENSUS_SET_ERRORS, WORST_CLASS_CONSENSUS_SET_ERRORS

__all__ = ["CONSENSUS_SET_ERRORS", "WORST_CLASS_CONSENSUS_SET_ERRORS"]
