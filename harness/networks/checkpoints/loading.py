"""Checkpoints of either format, recognized by their first bytes, loaded into a model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness.networks.architectures import ARCHITECTURES, build
from harness.networks.checkpoints.choosing import Choice, choose
from harness.networks.checkpoints.files import CheckpointRefused, read_members, read_regular, shown
from harness.networks.checkpoints.fitting import OF_ANOTHER, Needed, fits_of, misfit
from harness.networks.checkpoints.native import read_native
from harness.networks.checkpoints.pickled import read_pickle
from harness.networks.checkpoints.state_dicts import StateDict, state_dicts
from harness.networks.checkpoints.tensors import hash_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.networks.checkpoints.native import Record
    from harness.networks.checkpoints.tensors import StoredTensor

_LEGACY = bytes.fromhex("80028a0a6cfc9c46f920")
"""First bytes of files by `torch.save` before PyTorch 1.6: a pickle of a long number."""
MAX_ARGUMENTS = 4_096
"""Most characters of an architecture's arguments as JSON, since a list in them may define a layer per number."""
_NOT_ITS_OWN = "The record in it is of another network than its tensors: save it again where it was trained."


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A loaded model with its origin; `sha256` is that of the file, `model_sha256` that of the network.

    For a predictor, `path` is the text of its SPEC, and `model` has a hash of its own. `note` describes the choice of
    the file's tensors, "" without one.
    """

    path: Path | str
    sha256: str
    model: Any
    architecture: str
    record: Record | None
    note: str = ""

    @property
    def model_sha256(self) -> str:
        """Return the SHA-256 over weights and buffers: equal for one network in all files and formats."""
        if not isinstance(self.model, nn.Module):
            return str(self.model.sha256)
        return hash_tensors({**self.model.state_dict(), **dict(self.model.named_buffers())})


def load_checkpoint(
    path: Path, *, builder: Callable[[], nn.Module] | None = None, choice: Choice | None = None
) -> Checkpoint:
    """Load a checkpoint, native or of `torch.save`, into an evaluation-mode model with float32 weights.

    The file's architecture id selects the network. Without a shipped id, the user's `builder` makes the network; its
    default is the notebook's. The state dict and the prefix of its names are then recognized, or set by `choice`.
    Raises `CheckpointRefused` for an irregular file.
    """
    note = ""
    try:
        content = read_regular(path)
        dicts, record = _read(content, path)
        if record is not None and (builder is None or record.architecture in ARCHITECTURES):
            (held,) = dicts
            architecture, tensors = record.architecture, held.tensors
            model = build_network(record, tensors, path)
        else:
            architecture = "fashion-cnn" if builder is None else "user"
            model = build("fashion-cnn", {}) if builder is None else builder()
            tensors, note = choose(dicts, model, choice or Choice(), path, builder=builder)
        fill(model, tensors, path)
    except MemoryError:
        next_step = "Free some memory, or check where the file comes from."
        raise CheckpointRefused("RESOURCE", path, "it needs more memory than this machine has", next_step) from None
    return Checkpoint(path, hashlib.sha256(content).hexdigest(), model.eval(), architecture, record, note)


def _read(content: bytes, path: Path) -> tuple[tuple[StateDict, ...], Record | None]:
    if content[:4] == b"PK\x03\x04":
        return state_dicts(read_pickle(read_members(content, path), path), path), None
    if content[8:9] == b"{":
        tensors, record = read_native(content, path)
        return (StateDict(("",), tensors, {}),), record
    fact = f"neither a safetensors file nor a zip file of torch.save; it starts with {content[:8].hex() or 'nothing'}"
    next_step = "Save the weights with safetensors or with torch.save(model.state_dict(), path)."
    if content.startswith(_LEGACY):
        fact = "in the format of torch.save before PyTorch 1.6, expected safetensors or its newer zip format"
        next_step = (
            "Save it again: torch.save(model.state_dict(), path), or, without the model, "
            "torch.save(torch.load(path, weights_only=True), another_path)."
        )
    raise CheckpointRefused("FORMAT", path, fact, next_step)


def build_network(record: Record, tensors: Mapping[str, StoredTensor], path: Path) -> nn.Module:
    """Return the network that a record describes; raises `CheckpointRefused` if the tensors do not fit it.

    The network is allocated after the tensors are known to fit, so it takes no more memory than they do.
    """
    name, arguments = record.architecture, record.arguments
    if name not in ARCHITECTURES:
        fact = f"unknown architecture id {shown(repr(name))}, known are {sorted(ARCHITECTURES)}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, OF_ANOTHER)
    if (length := len(json.dumps(arguments))) > MAX_ARGUMENTS:
        fact = f"the arguments of its architecture have {length} characters, more than the limit of {MAX_ARGUMENTS}"
        raise CheckpointRefused("RESOURCE", path, fact, _NOT_ITS_OWN)
    try:
        with torch.device("meta"):  # Arguments may claim any size, so nothing is allocated before the shapes agree.
            _expect_fit(build(name, arguments), tensors, path)
        model = build(name, arguments)
    except (TypeError, ValueError, RuntimeError, LookupError, OverflowError) as error:
        fact = f"architecture {name!r} rejects its arguments ({shown(str(error).partition(chr(10))[0])})"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _NOT_ITS_OWN) from None
    for buffer_name, buffer in model.named_buffers():
        if not buffer.isfinite().all() or (buffer_name == "std" and not buffer.all()):
            fact = f"{buffer_name} of its normalization is {shown(buffer.flatten().tolist())}"
            raise CheckpointRefused("NONFINITE", path, fact, _NOT_ITS_OWN)
    return model


def _expect_fit(model: nn.Module, tensors: Mapping[str, StoredTensor], path: Path) -> None:
    (fit,) = fits_of(StateDict(("",), tensors, {}), Needed.by(model), prefix="")
    if not fit.covers or fit.unknown:
        raise misfit(fit, path, builder=None, next_step=_NOT_ITS_OWN)


def fill(model: nn.Module, tensors: Mapping[str, StoredTensor], path: Path) -> None:
    """Copy fitting tensors into the model; raises `CheckpointRefused` for NaN or infinity in its precision.

    A tensor that the file lacks keeps its initial value.
    """
    weights = {}
    for name, own in model.state_dict().items():
        weights[name] = tensors[name].read().to(own.dtype) if name in tensors else own
        if not weights[name].isfinite().all():
            fact = f"tensor {name} holds NaN or infinity"
            raise CheckpointRefused("NONFINITE", path, fact, "Its training diverged: train it again.")
    model.load_state_dict(weights)
