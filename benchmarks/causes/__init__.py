"""Likely causes of failures.

The right one for each kind of mutant, and the one that the report names.
"""
