"""Faults planted in serving pipelines, each to be named by the command `skew`, and identical pipelines, none to be."""
