"""Safe loading and saving of checkpoints; only this package opens files with weights.

Native files are safetensors with a JSON record in the header. Files of `torch.save`, with a state
dict or a whole training, are read without an unpickler. No file is ever executed: an irregular one
is refused, without a fallback.
"""

from harness.networks.checkpoints.files import (
    CheckpointRefused,
    Record,
    hash_tensors,
    require_file,
    save_checkpoint,
)
from harness.networks.checkpoints.loading import Checkpoint, load_checkpoint

__all__ = [
    "Checkpoint",
    "CheckpointRefused",
    "Record",
    "hash_tensors",
    "load_checkpoint",
    "require_file",
    "save_checkpoint",
]
