"""Reference panel in a run: its predictions, consensus-set errors, suspected label errors and paired incumbents."""

from harness.measures.panel.consensus import LOST_CONSENSUS, LOST_OF_A_CLASS

__all__ = ["LOST_CONSENSUS", "LOST_OF_A_CLASS"]
