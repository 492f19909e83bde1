"""A small network with batch norms for the cases, and its random augmentation.

It trains in seconds on one core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Range of augmentation: limits in degrees and pixels, and the border outside an image."""

    rotate: float
    shift_x: float
    shift_y: float
    border: str

    @property
    def option(self) -> str:
        """Return the limits as the option `--augmentation` has them, without those that are 0."""
        limits = {"rotate": self.rotate, "shift_x": self.shift_x, "shift_y": self.shift_y}
        return ",".join(f"{name}={limit:g}" for name, limit in limits.items() if limit)


@dataclass(frozen=True)
class Recipe:
    """The recipe of a network.

    `optimizer` is adamw or sgd, and `rate` the peak of a one-cycle schedule.
    """

    optimizer: str
    rate: float
    epochs: int
    batch: int
    weight_decay: float = 0.01
    label_smoothing: float = 0.0


class Network(nn.Module):
    """Three convolutions with stride 2 for pixels (N, channels, side, side) in [0, 1].

    The output is logits (N, classes). The first has `width` channels, and each further one twice as
    many.
    """

    def __init__(self, channels: int, classes: int, side: int, width: int) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        self.blocks = nn.Sequential(*[_block(before, after) for before, after in pairwise(widths)])
        self.fc = nn.Linear(widths[-1] * (side // 8) ** 2, classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, classes)."""
        features = self.blocks(pixels - 0.4)
        logits: torch.Tensor = self.fc(features.flatten(1))
        return logits

    def input_of_batch_norm(self, block: int, pixels: torch.Tensor) -> torch.Tensor:
        """Return the input of a block's batch norm for pixels (N, channels, height, width)."""
        features: torch.Tensor = self.blocks[:block](pixels - 0.4)
        convolution = self.batch_norm_block(block)[0]
        output: torch.Tensor = convolution(features)
        return output

    def batch_norm_block(self, block: int) -> nn.Sequential:
        """Return a block: a convolution, its batch norm and its activation."""
        layers = self.blocks[block]
        assert isinstance(layers, nn.Sequential)
        return layers


def _block(before: int, after: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def pixels_of(images: np.ndarray) -> torch.Tensor:
    """Return images (N, H, W, C) uint8 as pixels (N, C, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous() / 255


def trained(
    network: nn.Module,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    recipe: Recipe,
    augmentation: Augmentation,
) -> nn.Module:
    """Train a network by the recipe and return it for inference.

    Each image is rotated and shifted at random.
    """
    steps = recipe.epochs * math.ceil(len(pixels) / recipe.batch)
    optimizer = _optimizer(network, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    network.train()

    for batch in _batches(len(pixels), recipe):
        images = augmented(pixels[batch], augmentation)
        loss = functional.cross_entropy(
            network(images), labels[batch], label_smoothing=recipe.label_smoothing
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()

    return network.eval()


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        weights = network.parameters()
        return torch.optim.SGD(
            weights, recipe.rate, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
        )
    return torch.optim.AdamW(network.parameters(), recipe.rate, weight_decay=recipe.weight_decay)


def _batches(count: int, recipe: Recipe) -> Iterator[torch.Tensor]:
    for _ in range(recipe.epochs):
        yield from torch.randperm(count).split(recipe.batch)  # type: ignore[no-untyped-call]


def augmented(pixels: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """Return pixels (N, C, side, side), each image rotated and shifted at random."""
    count, side = len(pixels), pixels.shape[-1]
    if not augmentation.rotate and not augmentation.shift_y:
        return _shifted_in_time(pixels, augmentation)
    angle = _within(augmentation.rotate, count) * math.pi / 180
    right, down = (
        _within(limit, count) * 2 / side for limit in (augmentation.shift_x, augmentation.shift_y)
    )
    cosine, sine = angle.cos(), angle.sin()
    first_row, second_row = (
        torch.stack([cosine, -sine, right], 1),
        torch.stack([sine, cosine, down], 1),
    )
    grid = functional.affine_grid(
        torch.stack([first_row, second_row], 1), list(pixels.shape), align_corners=False
    )
    border = "border" if augmentation.border == "edge" else "zeros"
    return functional.grid_sample(pixels, grid, padding_mode=border, align_corners=False)


def _shifted_in_time(pixels: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """Return pixels whose columns are shifted by whole pixels.

    The first and the last one repeat.
    """
    count, _, _, side = pixels.shape
    shift_px = _within(augmentation.shift_x + 0.5, count).round().long()
    columns = (torch.arange(side) + shift_px[:, None]).clamp(0, side - 1)
    return pixels.gather(3, columns[:, None, None, :].expand_as(pixels))


def _within(limit: float, count: int) -> torch.Tensor:
    return (2 * torch.rand(count) - 1) * limit


@torch.no_grad()
def make_batch_norm_stale(network: Network, pixels: torch.Tensor, *, block: int) -> None:
    """Give the batch norm of a block the statistics of these pixels."""
    inputs = network.input_of_batch_norm(block, pixels)
    batch_norm = network.batch_norm_block(block)[1]
    assert isinstance(batch_norm, nn.BatchNorm2d)
    batch_norm.running_mean = inputs.mean(dim=(0, 2, 3))
    batch_norm.running_var = inputs.var(dim=(0, 2, 3))
