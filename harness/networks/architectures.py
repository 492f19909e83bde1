"""The shipped CNN, and the table of architecture ids that a checkpoint may name."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class FashionCNN(nn.Module):
    """The study's convolutional network; takes pixels in [0, 1] and returns logits.

    Each block is a 3x3 convolution (padding 1), batch norm, ReLU and 2x2 max pooling. Fully
    connected layers with ReLU and dropout follow. With the defaults it has 422,474 parameters,
    named `conv1.weight`, `bn1.weight`, ..., `fc3.bias` as in the notebook. Normalization is the
    first step and not in the state dict.

    Args:
        conv_channels: The output channels of each block.
        fc_sizes: The widths of the hidden layers.
        dropout: The probability of dropout after each hidden layer.
        in_channels: The channels of an image.
        image_size: Height and width of an image in pixels.
        classes: The number of classes.
        mean: The mean of the training images' pixels, one number or one per channel.
        std: Their standard deviation, likewise.

    Raises:
        ValueError: The pooling leaves no pixel of an image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        conv_channels: Sequence[int] = (32, 64, 128),
        fc_sizes: Sequence[int] = (256, 128),
        dropout: float = 0.25,
        in_channels: int = 1,
        image_size: tuple[int, int] | Sequence[int] = (28, 28),
        classes: int = 10,
        mean: float | Sequence[float] = 0.2860,
        std: float | Sequence[float] = 0.3530,
    ) -> None:
        super().__init__()
        height, width = (size // 2 ** len(conv_channels) for size in image_size)
        if height < 1 or width < 1:
            raise ValueError(
                f"FashionCNN: {len(conv_channels)} conv blocks leave no pixel of an image of "
                f"{tuple(image_size)} pixels; use fewer blocks or images of at least "
                f"{2 ** len(conv_channels)} pixels"
            )
        self.in_channels, self.image_size, self.classes = in_channels, tuple(image_size), classes
        self.blocks, self.hidden = len(conv_channels), len(fc_sizes)

        channels = (in_channels, *conv_channels)
        for number, (inputs, outputs) in enumerate(pairwise(channels), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, kernel_size=3, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))

        sizes = (conv_channels[-1] * height * width, *fc_sizes, classes)
        for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            self.add_module(f"fc{number}", nn.Linear(inputs, outputs))
        self.dropout = nn.Dropout(dropout)

        for name, value in (("mean", mean), ("std", std)):
            by_channel = torch.as_tensor(value, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, by_channel, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels (N, C, H, W) in [0, 1] to logits (N, classes)."""
        x = (pixels - self.mean) / self.std
        for number in range(1, self.blocks + 1):
            x = self.get_submodule(f"conv{number}")(x)
            # Pooling before ReLU gives the same values as after it, with a quarter of the work.
            x = functional.relu(functional.max_pool2d(self.get_submodule(f"bn{number}")(x), 2))
        x = x.flatten(1)
        for number in range(1, self.hidden + 1):
            x = self.dropout(functional.relu(self.get_submodule(f"fc{number}")(x)))
        logits: Tensor = self.get_submodule(f"fc{self.hidden + 1}")(x)
        return logits


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {"fashion-cnn": FashionCNN}
"""Architectures by their id in a checkpoint; a file never names code to import."""


def build(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build the network of an architecture id and its arguments, with random weights.

    Raises:
        KeyError: The id is unknown.
        TypeError, ValueError: The architecture rejects the arguments.
    """
    return ARCHITECTURES[architecture](**arguments)
