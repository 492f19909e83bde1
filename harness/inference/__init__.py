"""Predictions of a model over images and perturbations: in fixed batches, in parallel over shards, remembered."""

from harness.inference.classifier import Classifier
from harness.inference.devices import available_cores, pick_device
from harness.inference.engine import ModelError
from harness.inference.predictions import Predictions

__all__ = ["Classifier", "ModelError", "Predictions", "available_cores", "pick_device"]
