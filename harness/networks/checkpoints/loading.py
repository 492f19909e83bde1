"""Load a checkpoint of either format, known by its first bytes, into a model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.networks.architectures import ARCHITECTURES
from harness.networks.checkpoints.archive import read_members
from harness.networks.checkpoints.building import build_network, fill
from harness.networks.checkpoints.native import read_native
from harness.networks.checkpoints.pickled import read_state_dict
from harness.networks.checkpoints.reading import read_regular
from harness.networks.checkpoints.refusals import CheckpointRefused
from harness.networks.checkpoints.tensors import StoredTensor, hash_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from harness.networks.checkpoints.records import Record


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with where it came from; `sha256` is that of the file, `model_sha256` that of what computes."""

    path: Path
    sha256: str
    model: nn.Module
    architecture: str
    record: Record | None

    @property
    def model_sha256(self) -> str:
        """Return the SHA-256 over weights and buffers: equal for the same network in another file or format."""
        return hash_tensors({**self.model.state_dict(), **dict(self.model.named_buffers())})


def load_checkpoint(path: Path, *, builder: Callable[[], nn.Module] | None = None) -> Checkpoint:
    """Load a checkpoint, native or a state dict, into an evaluation-mode model with float32 weights.

    The network is that of the file's architecture id. A file that names no shipped architecture goes into the network
    that the user's `builder` returns, or without one into the notebook's. Raises `CheckpointRefused` for anything out
    of order.
    """
    try:
        content = read_regular(path)
        tensors, record = _read(content, path)
        if builder is not None and (record is None or record.architecture not in ARCHITECTURES):
            architecture, model = "user", builder()
        else:
            architecture, model = build_network(record, tensors, path)
        fill(model, tensors, path)
    except MemoryError:
        next_step = "Free some memory, or check where the file comes from."
        raise CheckpointRefused("RESOURCE", path, "it needs more memory than there is", next_step) from None
    return Checkpoint(path, hashlib.sha256(content).hexdigest(), model.eval(), architecture, record)


def _read(content: bytes, path: Path) -> tuple[dict[str, StoredTensor], Record | None]:
    if content[:4] == b"PK\x03\x04":
        return read_state_dict(read_members(content, path), path), None
    if content[8:9] == b"{":
        return read_native(content, path)
    raise CheckpointRefused(
        "FORMAT",
        path,
        f"neither a safetensors file nor a zip file of torch.save; it starts with {content[:8].hex() or 'nothing'}",
        "Save the weights with safetensors or with torch.save(model.state_dict(), path).",
    )
