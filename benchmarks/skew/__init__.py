"""Faults planted in serving pipelines, for the command `skew` to name.

Identical pipelines must have no name.
"""
