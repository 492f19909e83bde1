"""Thresholds from few retrains, held against healthy networks that had no part in them."""
