"""Predictors: models other than PyTorch checkpoints, such as a server or the user's code.

`protocol` defines a predictor, and `kinds` has the table of kinds. `network` turns a predictor into
a model that the rest of the harness runs like any other.
"""
