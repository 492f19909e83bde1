"""Networks as people use them, at 224 px: what the harness adds to plain loops."""
