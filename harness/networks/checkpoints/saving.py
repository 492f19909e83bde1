"""Write a model in the native format: safetensors, with a record in the header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.networks.checkpoints.records import RECORD_KEY, Record, record_text
from harness.networks.checkpoints.tensors import hash_tensors
from harness.store.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def save_checkpoint(path: Path, model: nn.Module, record: Record) -> None:
    """Write model and record to `path` in the native format; the file appears atomically, complete or not at all."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, save(tensors, metadata={RECORD_KEY: record_text(record, hash_tensors(tensors))}))
