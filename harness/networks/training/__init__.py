"""Training of a model from a config: augmented in batches, resumable to the same bits."""

from harness.networks.training.config import (
    CURVES,
    PRESETS,
    SHIPPED,
    Epoch,
    TrainingConfig,
    augmented,
    best_epoch,
    epochs_output,
    seconds_of_training,
    write_history,
)
from harness.networks.training.loop import train, train_or_load

__all__ = [
    "CURVES",
    "PRESETS",
    "SHIPPED",
    "Epoch",
    "TrainingConfig",
    "augmented",
    "best_epoch",
    "epochs_output",
    "seconds_of_training",
    "train",
    "train_or_load",
    "write_history",
]
