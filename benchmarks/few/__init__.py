"""Thresholds from few reference models, tested on networks of the same recipe that had no part in them."""
