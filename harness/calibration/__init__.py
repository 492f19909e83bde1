"""Thresholds from a panel of reference models: train or take the panel, measure it, and set the thresholds by its spread."""
