"""Benchmark of the fingerprint.

Networks of one recipe, and of others, told apart by their weights.
"""
