"""Likely causes of failures: the right one for each kind of mutant, and the one that the report names."""
