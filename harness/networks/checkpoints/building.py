"""From described tensors to a model: the architecture by its id, shapes and dtypes compared, finite values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from harness.networks.architectures import ARCHITECTURES, build
from harness.networks.checkpoints.refusals import CheckpointRefused, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from harness.networks.checkpoints.records import Record
    from harness.networks.checkpoints.tensors import StoredTensor

MAX_ARGUMENTS = 4_096
"""Longer arguments of an architecture, as JSON, are refused: a list in them may stand for a layer per number."""

_OWN_NETWORK = "For a network that is not the shipped architecture use --stress-model."
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_INTEGERS = {torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool}


def build_network(record: Record | None, tensors: Mapping[str, StoredTensor], path: Path) -> tuple[str, nn.Module]:
    """Return the id and the network that a record describes, by default the notebook's; raises `CheckpointRefused`.

    The network is allocated once the tensors are known to fit it, so that it is no larger than they are.
    """
    if record is None:
        return "fashion-cnn", build("fashion-cnn", {})
    name, arguments = record.architecture, record.arguments
    if name not in ARCHITECTURES:
        fact = f"unknown architecture id {shown(repr(name))}, known are {sorted(ARCHITECTURES)}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, "For a network of your own use --stress-model.")
    if (length := len(json.dumps(arguments))) > MAX_ARGUMENTS:
        fact = f"the arguments of its architecture have {length} characters, more than the limit of {MAX_ARGUMENTS}"
        raise CheckpointRefused("RESOURCE", path, fact, _OWN_NETWORK)
    try:
        with torch.device("meta"):  # Arguments may claim any size: nothing is allocated before the shapes agree.
            compare(build(name, arguments), tensors, path)
        model = build(name, arguments)
    except (TypeError, ValueError, RuntimeError, LookupError, OverflowError) as error:
        fact = f"architecture {name!r} rejects its arguments ({shown(str(error).partition(chr(10))[0])})"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _OWN_NETWORK) from None
    for buffer_name, buffer in model.named_buffers():
        if not buffer.isfinite().all() or (buffer_name == "std" and not buffer.all()):
            fact = f"{buffer_name} of its normalisation is {shown(buffer.flatten().tolist())}"
            raise CheckpointRefused("NONFINITE", path, fact, _OWN_NETWORK)
    return name, model


def compare(model: nn.Module, tensors: Mapping[str, StoredTensor], path: Path) -> None:
    """Raise `CheckpointRefused` unless the tensors have the names and shapes of the model's, and dtypes that fit."""
    own = model.state_dict()
    for name, expected in own.items():
        shape = tuple(expected.shape)
        if name not in tensors:
            raise CheckpointRefused("ARCHITECTURE", path, f"tensor {name} {shape} is missing", _OWN_NETWORK)
        stored = tensors[name]
        if stored.shape != shape:
            fact = f"tensor {name} has shape {shown(stored.shape)}, the architecture has {shape}"
            raise CheckpointRefused("ARCHITECTURE", path, fact, _OWN_NETWORK)
        if stored.dtype not in (_FLOATS if expected.is_floating_point() else _INTEGERS):
            raise CheckpointRefused("ARCHITECTURE", path, f"tensor {name} has dtype {stored.dtype}", _OWN_NETWORK)
    if unknown := sorted(set(tensors) - set(own)):
        fact = f"the architecture has no tensor {shown(unknown[0])}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _OWN_NETWORK)


def fill(model: nn.Module, tensors: Mapping[str, StoredTensor], path: Path) -> None:
    """Give the model the tensors, which must fit it and be finite in its precision; raises `CheckpointRefused`."""
    compare(model, tensors, path)
    weights = {}
    for name, own in model.state_dict().items():
        weights[name] = tensors[name].read().to(own.dtype)
        if not weights[name].isfinite().all():
            fact = f"tensor {name} holds NaN or infinity"
            raise CheckpointRefused("NONFINITE", path, fact, "Its training diverged: train it again.")
    model.load_state_dict(weights)
