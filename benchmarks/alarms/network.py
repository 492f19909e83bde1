"""Many small convolutional networks at once: every layer is one batched product of matrices."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

WIDTHS = (16, 32)
"""Channels of the two convolutions."""
GRID = 4
"""Positions along a side of the first convolution's output."""
WINDOWS = {8: (4, 2), 14: (6, 4)}
"""Window and step of the first convolution, by the pixels of a side."""
_OUTPUTS = 16
"""Outputs of the last layer. Products of matrices are fast at multiples of 16."""


class Networks:
    """So many networks of one architecture, with weights of their own.

    A network has two convolutions and a linear layer. The windows of the first convolution overlap,
    and its output has 4 x 4 positions. Those of the second one are 2 x 2 positions, without an
    overlap.
    """

    def __init__(
        self, count: int, side: int, classes: int, generator: torch.Generator | None = None
    ) -> None:
        self.count, self.classes = count, classes
        self.window, self.step = WINDOWS[side]
        self.margin = ((GRID - 1) * self.step + self.window - side) // 2
        first, second = WIDTHS
        shapes = [(self.window**2, first), (4 * first, second), (GRID * second, _OUTPUTS)]
        self.weights = [
            torch.randn((count, *shape), generator=generator) * math.sqrt(2 / shape[0])
            for shape in shapes
        ]
        self.biases = [torch.zeros(count, 1, shape[1]) for shape in shapes]
        for parameter in self.parameters:
            parameter.requires_grad_()

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Return all weights and biases, each (networks, ...)."""
        return [*self.weights, *self.biases]

    def windows(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the windows of images (N, side, side), (N, positions, pixels of a window)."""
        frame = functional.pad(pixels, (self.margin,) * 4)
        rows = frame.unfold(1, self.window, self.step).unfold(2, self.window, self.step)
        return rows.reshape(len(pixels), GRID * GRID, self.window**2)

    def logits(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the logits, (networks, images, classes).

        `windows` are those of each network's images, (networks, images, positions, pixels), or
        those of images that all networks get, (images, positions, pixels).
        """
        shared = windows.expand(self.count, *windows.shape[-3:])
        images = shared.shape[1]
        first = self._layer(0, shared.flatten(1, 2)).relu_()
        second = self._layer(1, _merged(first, images)).relu_()
        outputs = self._layer(2, second.reshape(self.count, images, -1))
        return outputs[..., : self.classes]

    def _layer(self, layer: int, values: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.biases[layer], values, self.weights[layer])


def _merged(values: torch.Tensor, images: int) -> torch.Tensor:
    """Return values, (networks, positions of images, channels), with 2 x 2 positions as one."""
    networks, _, channels = values.shape
    half = GRID // 2
    cells = values.reshape(networks, images * half, 2, half, 2 * channels).transpose(2, 3)
    return cells.reshape(networks, images * half * half, 4 * channels)
