"""Mutations of a healthy checkpoint: damage on the way from training to serving.

Each takes a freshly loaded checkpoint, an amount and a generator, damages the model in place and
returns the checkpoint to save. "Weights" are those of convolutions and fully connected layers,
without biases and batch norms.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.networks.checkpoints import Checkpoint, Record

MIXED = ("Shirt", "T-shirt/top")
"""The classes whose logits `swapped_logits` mixes."""


def wrong_normalization(
    checkpoint: Checkpoint,
    amount: tuple[float, float],
    generator: torch.Generator,  # noqa: ARG001
) -> Checkpoint:
    """Serve the model with another (mean, standard deviation) of pixels than in training."""
    mean, std = amount
    record = _record(checkpoint)
    return replace(
        checkpoint, record=replace(record, arguments={**record.arguments, "mean": mean, "std": std})
    )


@torch.no_grad()
def weight_noise(checkpoint: Checkpoint, amount: float, generator: torch.Generator) -> Checkpoint:
    """Add Gaussian noise with this share of each weight tensor's standard deviation."""
    for weight in _weights(checkpoint):
        weight.add_(torch.randn(weight.shape, generator=generator) * weight.std() * amount)
    return checkpoint


@torch.no_grad()
def pruned_channels(
    checkpoint: Checkpoint,
    amount: float,
    generator: torch.Generator,  # noqa: ARG001
) -> Checkpoint:
    """Zero, in each convolution and its batch norm, this share of the output channels.

    Those of smallest L1 norm.
    """
    modules = dict(checkpoint.model.named_modules())
    for name, conv in modules.items():
        if isinstance(conv, nn.Conv2d):
            norms = conv.weight.abs().sum(dim=(1, 2, 3))
            pruned = norms.argsort()[: round(amount * len(norms))]
            norm = modules[name.replace("conv", "bn")]
            for tensor in (conv.weight, norm.weight, norm.bias):
                tensor[pruned] = 0
    return checkpoint


@torch.no_grad()
def quantised(checkpoint: Checkpoint, amount: int, generator: torch.Generator) -> Checkpoint:  # noqa: ARG001
    """Round weights to so many bits, symmetric around zero, with one scale per tensor.

    2 bits are -1, 0 and 1.
    """
    levels = 2 ** (amount - 1) - 1
    for weight in _weights(checkpoint):
        scale = weight.abs().max() / levels
        weight.copy_((weight / scale).round() * scale)
    return checkpoint


@torch.no_grad()
def swapped_logits(checkpoint: Checkpoint, amount: float, generator: torch.Generator) -> Checkpoint:  # noqa: ARG001
    """Mix the last layer's rows of two classes (`MIXED`).

    This share of each is taken from the other; 1 swaps them.
    """
    classes = _record(checkpoint).classes
    rows = [classes.index(name) for name in MIXED]
    last = _last_layer(checkpoint)
    for tensor in (last.weight, last.bias):
        tensor[rows] = (1 - amount) * tensor[rows] + amount * tensor[rows[::-1]]
    return checkpoint


@torch.no_grad()
def sign_flips(checkpoint: Checkpoint, amount: float, generator: torch.Generator) -> Checkpoint:
    """Change the sign of this share of the weights of each tensor, chosen at random."""
    for weight in _weights(checkpoint):
        chosen = torch.randperm(weight.numel(), generator=generator)[
            : round(amount * weight.numel())
        ]
        signs = torch.ones(weight.numel())
        signs[chosen] = -1
        weight.mul_(signs.view(weight.shape))
    return checkpoint


@torch.no_grad()
def stale_statistics(checkpoint: Checkpoint, amount: int, generator: torch.Generator) -> Checkpoint:  # noqa: ARG001
    """Save batch norms whose statistics were reset only so many batches ago.

    The reset sets mean 0 and variance 1. Running statistics forget their start by a factor of 1 -
    momentum with each batch (Ioffe & Szegedy 2015; the rule is PyTorch's). The batches count as
    typical ones: nothing but the start is wrong.
    """
    for norm in checkpoint.model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None, (
                "the shipped network's batch norms keep statistics"
            )
            assert norm.running_var is not None, "the shipped network's batch norms keep statistics"
            assert norm.momentum is not None, "the shipped network's batch norms forget at one rate"
            start = (1 - norm.momentum) ** amount
            norm.running_mean.mul_(1 - start)
            norm.running_var.mul_(1 - start).add_(start)
    return checkpoint


@torch.no_grad()
def logit_scaling(checkpoint: Checkpoint, amount: float, generator: torch.Generator) -> Checkpoint:  # noqa: ARG001
    """Multiply the logits: every prediction stays, every confidence changes."""
    last = _last_layer(checkpoint)
    for tensor in (last.weight, last.bias):
        tensor.mul_(amount)
    return checkpoint


def _weights(checkpoint: Checkpoint) -> list[Tensor]:
    return [
        layer.weight
        for layer in checkpoint.model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]


def _last_layer(checkpoint: Checkpoint) -> nn.Linear:
    return [layer for layer in checkpoint.model.modules() if isinstance(layer, nn.Linear)][-1]


def _record(checkpoint: Checkpoint) -> Record:
    assert checkpoint.record is not None, f"{checkpoint.path}: a healthy checkpoint has a record"
    return checkpoint.record
