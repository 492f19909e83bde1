"""Set up and calibrate a gate: its first files, a panel of reference models, and thresholds by their spread."""
