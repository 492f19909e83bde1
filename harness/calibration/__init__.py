"""Set-up and calibration of a gate: its first files, a reference panel, and thresholds from its spread."""
