"""Set-up and calibration of a gate.

Its first files, a reference panel, and thresholds from its spread.
"""
