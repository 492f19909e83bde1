"""Reference panel in a run: its predictions, thresholds, and what follows from them.

These are consensus sets, suspected label errors and paired incumbents.
"""
