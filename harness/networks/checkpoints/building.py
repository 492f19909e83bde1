"""From described tensors to a model: the architecture by its id, shapes and dtypes compared, finite values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch

from harness.networks.architectures import ARCHITECTURES, build
from harness.networks.checkpoints.fitting import Needed, fits_of
from harness.networks.checkpoints.members import StateDict
from harness.networks.checkpoints.misfits import misfit
from harness.networks.checkpoints.refusals import CheckpointRefused, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from harness.networks.checkpoints.records import Record
    from harness.networks.checkpoints.tensors import StoredTensor

MAX_ARGUMENTS = 4_096
"""Longer arguments of an architecture, as JSON, are refused: a list in them may stand for a layer per number."""

_NOT_ITS_OWN = "The record in it is of another network than its tensors: save it anew where it was trained."


def build_network(record: Record, tensors: Mapping[str, StoredTensor], path: Path) -> nn.Module:
    """Return the network that a record describes; raises `CheckpointRefused` for one that its tensors do not fit.

    The network is allocated once the tensors are known to fit it, so that it is no larger than they are.
    """
    name, arguments = record.architecture, record.arguments
    if name not in ARCHITECTURES:
        fact = f"unknown architecture id {shown(repr(name))}, known are {sorted(ARCHITECTURES)}"
        raise CheckpointRefused("ARCHITECTURE", path, fact, "For a network of your own use --stress-model.")
    if (length := len(json.dumps(arguments))) > MAX_ARGUMENTS:
        fact = f"the arguments of its architecture have {length} characters, more than the limit of {MAX_ARGUMENTS}"
        raise CheckpointRefused("RESOURCE", path, fact, _NOT_ITS_OWN)
    try:
        with torch.device("meta"):  # Arguments may claim any size: nothing is allocated before the shapes agree.
            _expect_fit(build(name, arguments), tensors, path)
        model = build(name, arguments)
    except (TypeError, ValueError, RuntimeError, LookupError, OverflowError) as error:
        fact = f"architecture {name!r} rejects its arguments ({shown(str(error).partition(chr(10))[0])})"
        raise CheckpointRefused("ARCHITECTURE", path, fact, _NOT_ITS_OWN) from None
    for buffer_name, buffer in model.named_buffers():
        if not buffer.isfinite().all() or (buffer_name == "std" and not buffer.all()):
            fact = f"{buffer_name} of its normalisation is {shown(buffer.flatten().tolist())}"
            raise CheckpointRefused("NONFINITE", path, fact, _NOT_ITS_OWN)
    return model


def _expect_fit(model: nn.Module, tensors: Mapping[str, StoredTensor], path: Path) -> None:
    (fit,) = fits_of(StateDict(("",), tensors, {}), Needed.by(model), prefix="")
    if not fit.covers or fit.unknown:
        raise misfit(fit, path, builder=None, next_step=_NOT_ITS_OWN)


def fill(model: nn.Module, tensors: Mapping[str, StoredTensor], path: Path) -> None:
    """Give the model the tensors, which fit it and must be finite in its precision; raises `CheckpointRefused`.

    What they lack stays as it was built.
    """
    weights = {}
    for name, own in model.state_dict().items():
        weights[name] = tensors[name].read().to(own.dtype) if name in tensors else own
        if not weights[name].isfinite().all():
            fact = f"tensor {name} holds NaN or infinity"
            raise CheckpointRefused("NONFINITE", path, fact, "Its training diverged: train it again.")
    model.load_state_dict(weights)
