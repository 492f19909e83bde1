"""Thresholds from a panel of reference models: train it, measure it, and set thresholds by its spread."""
