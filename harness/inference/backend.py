"""The inputs of a backend, images under perturbations, and the error of a lost one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.codes import Code
from harness.base.errors import Interruption
from harness.data.images import unit_range
from harness.inference.devices import moved
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from torch import Tensor

    from harness.perturb import Perturbation


class BackendLostError(Interruption):
    """The backend is lost or cannot work; the message says why. The run is then inconclusive."""

    code = Code.BACKEND_LOST


@dataclass(frozen=True, eq=False)
class Perturbed:
    """M inputs of a model: image `at[i]` of `pixels`, under perturbation `which[i]`.

    `pixels` is (N, C, H, W) uint8, `at` (M,) int64, `which` (M,) int64, or None if all inputs are under the first
    perturbation. Another process can make the inputs from this description. Inputs may be `rounded` to 8 bits.
    """

    pixels: Tensor
    at: np.ndarray
    device: torch.device
    perturbations: tuple[Perturbation, ...] = (IDENTITY,)
    which: np.ndarray | None = None
    rounded: bool = False

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
            pixels = self.perturbations[0](pixels)
        else:
            # One pose at a time, since one pose for many images is cheaper than a pose for each.
            which = self.which[numbers]
            cuts = [0, *(np.flatnonzero(np.diff(which)) + 1), len(which)]
            runs = [slice(*cut) for cut in pairwise(cuts)]
            pixels = torch.cat([self.perturbations[which[run.start]](pixels[run]) for run in runs])
        return unit_range(pixels.clamp(0, 1).mul(255).round().to(torch.uint8)) if self.rounded else pixels

    def only(self, numbers: np.ndarray) -> Perturbed:
        """Return the inputs of these numbers, numbered from 0."""
        return replace(self, at=self.at[numbers], which=None if self.which is None else self.which[numbers])

    def __str__(self) -> str:
        under = f"under {self.perturbations[0]}" if self.which is None else f"in {len(self.perturbations)} poses"
        return f"images {(len(self), *self.shape)} {under}"
