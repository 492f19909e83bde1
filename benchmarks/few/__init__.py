"""Thresholds from few reference models, held against reference models that had no part in them."""
