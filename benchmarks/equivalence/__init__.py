"""Artifacts of a network, healthy and broken, to which the rule of equivalence is applied."""
