"""Mutants derived from reference models, judged by the checks on easy images and on batch norms."""
