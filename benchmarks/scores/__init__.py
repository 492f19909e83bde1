"""Thresholds on mean scores from few reference models: false alarms of retrained models, and faults found."""
