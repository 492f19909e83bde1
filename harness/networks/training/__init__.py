"""Training of a model from a config: augmented in batches, resumable to the same bits."""

from harness.networks.training.config import PRESETS, TrainingConfig, augmented
from harness.networks.training.loop import train
from harness.networks.training.state import CURVES, Epoch, best_epoch, seconds_of_training, write_history

__all__ = [
    "CURVES",
    "PRESETS",
    "Epoch",
    "TrainingConfig",
    "augmented",
    "best_epoch",
    "seconds_of_training",
    "train",
    "write_history",
]
