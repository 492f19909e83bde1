"""Moments of what the batch norms of a network get, by one pass over inputs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.inference.devices import in_batches
from harness.networks.process import evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.inference.engine import Perturbed


def channel_moments(
    model: nn.Module,
    inputs: Perturbed,
    size: int,
    workers: int,
    layers: dict[str, Any],
    *,
    parts: int,
) -> np.ndarray:
    """Return number, mean and variance of the inputs of each batch norm's channels.

    The shape is (parts, 3, channels), float32. A part has every so many-th batch of `size` inputs.
    `layers` are batch norms of the model by name. A layer that the model does not call has zeros.
    """
    tap = _MomentsTap()

    def look(positions: np.ndarray) -> np.ndarray:
        tap.seen = {}
        with torch.no_grad():
            model(inputs(positions).contiguous(memory_format=torch.channels_last))
        none = {name: np.zeros((3, len(layer.running_var))) for name, layer in layers.items()}
        return np.concatenate([tap.seen.get(name, none[name]) for name in layers], axis=1)

    with evaluating(model, {name: tap.hook(name) for name in layers}):
        sums = np.stack(in_batches(look, np.arange(len(inputs)), size=size, workers=workers))
    counts, firsts, seconds = np.stack([sums[at::parts].sum(axis=0) for at in range(parts)], axis=1)
    means = firsts / np.maximum(counts, 1)
    variances = np.maximum(seconds / np.maximum(counts, 1) - np.square(means), 0)
    return np.stack([counts, means, variances], axis=1).astype(np.float32)


class _MomentsTap(threading.local):
    """Hooks that keep number, sum and sum of squares of each channel's inputs, by thread."""

    seen: dict[str, np.ndarray]

    def hook(self, name: str) -> Any:
        def keep(_layer: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
            each = inputs[0].detach().double().transpose(0, 1).flatten(1)
            count = torch.full((len(each),), each.shape[1], dtype=torch.float64, device=each.device)
            now = torch.stack([count, each.sum(dim=1), each.square().sum(dim=1)]).cpu().numpy()
            self.seen[name] = self.seen.get(name, 0) + now

        return keep
