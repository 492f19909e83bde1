"""Benchmark of the fingerprint: networks of one recipe, and of others, told apart by their weights."""
