"""Thresholds on mean scores from few reference models.

False alarms of retrained models, and faults found.
"""
