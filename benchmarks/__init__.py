"""Benchmarks: claims about the harness, measured."""
