"""Speed of the harness.

Ratios to peers, measured in one run on the same model, images and threads.
"""
