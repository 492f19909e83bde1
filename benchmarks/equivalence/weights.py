"""Artifacts of a network with other weights: rounded, pruned, shaken, of another epoch, or with other statistics."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmarks.equivalence.exports import BATCH, Maker, recorded, saved
from benchmarks.equivalence.networks import with_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.equivalence.networks import Material

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def changed(change: Callable[[Tensor], Tensor], *, least_dimensions: int = 2) -> Maker:
    """Return what changes each tensor of weights with so many dimensions."""

    def made(of: Material, path: Path) -> str:
        network = copy.deepcopy(of.network)
        with torch.no_grad():
            for tensor in (each for each in network.parameters() if each.ndim >= least_dimensions):
                tensor.copy_(change(tensor))
        return saved(network, of, path)

    return made


def rounded_to(dtype: torch.dtype) -> Maker:
    """Return what rounds weights to a type of less precision."""
    return changed(lambda tensor: tensor.to(dtype).to(tensor.dtype), least_dimensions=0)


def bits(number: int) -> Maker:
    """Return what rounds weights to so many bits, by one scale for each tensor."""
    levels = 2 ** (number - 1) - 1
    return changed(lambda tensor: (tensor / tensor.abs().max() * levels).round() * tensor.abs().max() / levels)


def noisy(share: float) -> Maker:
    """Return what adds noise of this share of each tensor's standard deviation."""

    def made(of: Material, path: Path) -> str:
        generator = torch.Generator().manual_seed(0)

        def shaken(tensor: Tensor) -> Tensor:
            return tensor + torch.randn(tensor.shape, generator=generator) * tensor.std() * share

        return changed(shaken)(of, path)

    return made


def pruned(share: float) -> Maker:
    """Return what sets this share of the smallest weights to zero."""

    def made(of: Material, path: Path) -> str:
        network = copy.deepcopy(of.network)
        layers = [(each, "weight") for each in network.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=share)
        for layer, name in layers:
            prune.remove(layer, name)
        return saved(network, of, path)

    return made


def reestimated(images: int) -> Maker:
    """Return what estimates batch-norm statistics anew, on so many training images."""

    def made(of: Material, path: Path) -> str:
        network = copy.deepcopy(of.network)
        for layer in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        with torch.no_grad():
            for batch in of.images[:images].split(BATCH):
                network(batch)
        return saved(network.eval(), of, path)

    return made


def statistics_in_training(of: Material, path: Path) -> str:
    """Leave batch-norm in training mode: it works with the statistics of each batch."""
    network = copy.deepcopy(of.network)
    for layer in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
        layer.train()
    return recorded(network, of, path)


def dropout_left_on(share: float = 0.25) -> Maker:
    """Return what leaves dropout on, of this share; before the last layer where the network has none."""

    def made(of: Material, path: Path) -> str:
        network = copy.deepcopy(of.network)
        left = [each for each in network.modules() if isinstance(each, nn.Dropout)]
        for layer in left:
            layer.p = share
            layer.train()
        if not left:
            *_, last = [each for each in network.modules() if isinstance(each, nn.Linear)]
            last.register_forward_pre_hook(lambda _, inputs: nn.functional.dropout(inputs[0], share))
        torch.manual_seed(0)
        return recorded(network, of, path)

    return made


def later(of: Material, path: Path) -> str:
    """Take the weights of another epoch."""
    return saved(of.later, of, path)


def averaged(of: Material, path: Path) -> str:
    """Take the mean of the weights over the steps since, in place of the weights."""
    return saved(of.averaged, of, path)


def later_with_statistics_of_before(of: Material, path: Path) -> str:
    """Take the weights of another epoch with the batch-norm statistics of this one; not if that epoch kept them."""
    kept = {name: tensor for name, tensor in of.network.state_dict().items() if name.endswith(_STATISTICS)}
    if all(torch.equal(of.later.state_dict()[name], tensor) for name, tensor in kept.items()):
        raise LookupError("the statistics of another epoch are the same")
    return saved(with_state(of.network, {**of.later.state_dict(), **kept}), of, path)


def one_layer_of_later(of: Material, path: Path) -> str:
    """Take one layer's weights of another epoch: the convolution in the middle."""
    layers = [name for name, each in of.network.named_modules() if isinstance(each, nn.Conv2d)]
    name = f"{layers[len(layers) // 2]}.weight"
    return saved(with_state(of.network, {**of.network.state_dict(), name: of.later.state_dict()[name]}), of, path)
