"""Thresholds from few reference models, tested on held-out networks of the same recipe."""
