"""Speed of the harness: ratios to peers, measured in one run on the same model, images and threads."""
