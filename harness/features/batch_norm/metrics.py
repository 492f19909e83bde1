"""Metrics of batch-norm statistics and their groups of layers.

The functions that compute them with PyTorch are elsewhere. Reading a checks file looks metrics up,
and needs no PyTorch.
"""

from __future__ import annotations

from dataclasses import replace

from harness.measures.metric import Metric, Unit

GROUPS = ("early", "middle", "late")
"""Groups of layers: thirds of the batch norms, in their order in the network."""
BATCH_NORM_DISTANCE = Metric(
    "batch_norm_distance",
    Unit.SCORE,
    better="less",
    words="logarithm of the distance of running statistics from activations",
    range=(-40.0, 40.0),
    heavy_tailed=True,
)
BATCH_NORM_DISTANCE_MINIMUM = replace(
    BATCH_NORM_DISTANCE, name="batch_norm_distance_minimum", better="more"
)
"""The same distance: statistics of few images, or of images without augmentation, fit test images
too well.
"""
BATCH_NORM_MISFIT = Metric(
    "batch_norm_misfit",
    Unit.SCORE,
    better="less",
    words="misfit of running statistics and activations",
    range=(0.0, 1e6),
    heavy_tailed=True,
)
"""The fourth root of the distance, for images augmented as in training.

Healthy networks have about 0.1.
"""
