"""What a model is shown: images, each under a perturbation, made when they are asked for, here or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.data.images import unit_range
from harness.inference.devices import moved
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from harness.perturb import Perturbation


@dataclass(frozen=True, eq=False)
class Perturbed:
    """M inputs of a model: image `at[i]` of `pixels`, under perturbation `which[i]`.

    `pixels` is (N, C, H, W) uint8, `at` (M,) int64, `which` (M,) int64, None for the first perturbation throughout. As
    it says what the inputs are made of, and not only how, they can be made in another process.
    """

    pixels: Tensor
    at: np.ndarray
    device: torch.device
    perturbations: tuple[Perturbation, ...] = (IDENTITY,)
    which: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.at)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of an input, (C, H, W)."""
        return tuple(self.pixels.shape[1:])

    def __call__(self, numbers: np.ndarray) -> Tensor:
        """Return the inputs of these numbers, (K,) int64, as pixels (K, C, H, W) float32 in [0, 1] on the device."""
        pixels = unit_range(moved(self.pixels[torch.from_numpy(self.at[numbers])], self.device))
        if self.which is None:
            return self.perturbations[0](pixels)
        # One pose at a time: picking pixels for many images alike is cheaper than for each its own.
        which = self.which[numbers]
        ends = [*(np.flatnonzero(np.diff(which)) + 1), len(which)]
        starts = [0, *ends[:-1]]
        return torch.cat([self.perturbations[which[a]](pixels[a:b]) for a, b in zip(starts, ends, strict=True)])

    def only(self, numbers: np.ndarray) -> Perturbed:
        """Return the inputs of these numbers, numbered from 0."""
        return replace(self, at=self.at[numbers], which=None if self.which is None else self.which[numbers])

    def __str__(self) -> str:
        under = f"under {self.perturbations[0]}" if self.which is None else f"in {len(self.perturbations)} poses"
        return f"{len(self)} images {under}"
