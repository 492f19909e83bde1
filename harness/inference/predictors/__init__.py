"""Predictors: anything that maps images to answers and is no PyTorch checkpoint, such as a server or a user's code.

`protocol` says what a predictor is, and `kinds` holds the table of kinds. `network` makes a predictor a model that the
rest of the harness runs like any other.
"""

from harness.inference.predictors.protocol import (
    Identity,
    Predictor,
    PredictorError,
    Provides,
    Remote,
    UnknownPixelsError,
)

__all__ = ["Identity", "Predictor", "PredictorError", "Provides", "Remote", "UnknownPixelsError"]
