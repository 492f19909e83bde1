"""Predictions of a model over images and perturbations.

In fixed batches, in parallel over shards, cached.
"""

from harness.inference.backends import placed, spread_of
from harness.inference.classifier import Classifier
from harness.inference.devices import available_cores, pick_device
from harness.inference.engine import ModelError
from harness.inference.predictions import Predictions
from harness.inference.role import RoleModel, along, open_model, under_corruption, under_each
from harness.inference.serving import under_unknown

__all__ = [
    "Classifier",
    "ModelError",
    "Predictions",
    "RoleModel",
    "along",
    "available_cores",
    "open_model",
    "pick_device",
    "placed",
    "spread_of",
    "under_corruption",
    "under_each",
    "under_unknown",
]
