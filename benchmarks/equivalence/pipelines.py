"""Artifacts with right weights and a mistake around them: other pixels before, or other classes behind."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.equivalence.exports import Maker, exported
from benchmarks.equivalence.networks import Preparation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.equivalence.networks import Material


class _Before(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.change, self.network = change, network

    def forward(self, pixels: Tensor) -> Tensor:
        """Map changed pixels to logits."""
        logits: Tensor = self.network(self.change(pixels))
        return logits


class _Reordered(nn.Module):
    def __init__(self, network: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels to logits in another order of the classes."""
        logits: Tensor = self.network(pixels)[:, self.order]
        return logits


def after(change: Callable[[Tensor], Tensor]) -> Maker:
    """Return what changes pixels (N, 1, H, W) before the network."""
    return lambda of, path: exported(_Before(change, of.network), of.images, path)


def reordered(*first: int) -> Maker:
    """Return what puts these of the ten classes first; without any, the reverse order."""
    order = [*first, *range(len(first), 10)] if first else list(range(10))[::-1]
    return lambda of, path: exported(_Reordered(of.network, order), of.images, path)


def prepared(**settings: object) -> Maker:
    """Return what prepares images otherwise, by these attributes of `Preparation`; not for a network without one."""

    def made(of: Material, path: Path) -> str:
        network = copy.deepcopy(of.network)
        steps = [each for each in network.modules() if isinstance(each, Preparation)]
        if not steps:
            raise LookupError("the network takes unchanged images")
        for step in steps:
            for name, value in settings.items():
                setattr(step, name, value)
        return exported(network, of.images, path)

    return made


def shifted(pixels: Tensor) -> Tensor:
    """Return images shifted right by a pixel."""
    return nn.functional.pad(pixels, (1, 0, 0, 0))[..., :-1]


def cropped(pixels: Tensor) -> Tensor:
    """Return images without their outermost pixel, enlarged to their size."""
    size = tuple(pixels.shape[-2:])
    return nn.functional.interpolate(pixels[..., 1:-1, 1:-1], size=size, mode="bilinear", align_corners=False)


def resized(pixels: Tensor) -> Tensor:
    """Return images enlarged to 32 px and reduced again without antialiasing."""
    large = nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    size = tuple(pixels.shape[-2:])
    return nn.functional.interpolate(large, size=size, mode="bilinear", align_corners=False)


def antialiased(pixels: Tensor) -> Tensor:
    """Return images blurred as an antialiasing filter does, by a quarter to each neighbor."""
    kernel = torch.tensor([0.25, 0.5, 0.25])
    return nn.functional.conv2d(pixels, (kernel[:, None] * kernel).view(1, 1, 3, 3), padding=1)


def standardized(pixels: Tensor) -> Tensor:
    """Return pixels normalized once more than the network does."""
    return (pixels - 0.5) / 0.5
