"""The protocol of a backend, which runs one model over many inputs: images under perturbations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from harness.base.codes import Code
from harness.base.errors import Interruption
from harness.data.images import unit_range
from harness.inference.devices import moved
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from torch import nn

    Inputs = Callable[[np.ndarray], Tensor]
    """Makes the inputs at these positions, (M,) int64, as pixels on the device, (M, C, H, W) float32 in [0, 1]."""
    from harness.perturb import Perturbation


class BackendLostError(Interruption):
    """The backend is lost or cannot work; the message says why. The run is then inconclusive."""

    code = Code.BACKEND_LOST


class Backend(Protocol):
    """Runs one model over many inputs, in batches of its own size.

    The `count` inputs of a call are numbered from 0. A callable makes them on demand, for several batches at a time.
    The bits of a result do not depend on the number, order or combination of calls.
    """

    @property
    def decides(self) -> Hashable:
        """Return all that determines the bits besides the model and its inputs; its `repr` is part of cache keys."""

    def measure_precision_on(self, count: int, inputs: Inputs, *, name: str) -> None:
        """Register the inputs for measuring the error of low precision against float32; `name` identifies them."""

    def screens_for(self, count: int) -> bool:
        """Return whether `logits` may differ from `exact_logits` for `count` inputs."""

    def logits(self, count: int, inputs: Inputs, *, classes: int, what: str) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes) float32, with the largest at the same class as float32.

        Raises `ModelError`, which names `what`, if the model fails.
        """

    def exact_logits(self, count: int, inputs: Inputs, *, classes: int, what: str) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes), all computed in float32; see `logits`."""


class BatchTask(Protocol):
    """A picklable task on inputs with a model, other than logits."""

    def __call__(self, model: nn.Module, inputs: Perturbed, workers: int) -> np.ndarray:
        """Return a row for each input, in their order; at most `workers` batches run in parallel."""


@runtime_checkable
class Spreading(Protocol):
    """A backend that also runs other tasks at the place of its models."""

    def over_batches(self, task: BatchTask, model: nn.Module, inputs: Perturbed, *, size: int) -> np.ndarray:
        """Return the task's result for the inputs with the model, in batches of this size."""


class MakeBackend(Protocol):
    """Maker of a backend from a model in evaluation mode on the device."""

    def __call__(self, model: nn.Module, *, device: torch.device, workers: int, screen: bool) -> Backend:
        """Return a backend for the model with at most `workers` parallel batches; exact unless `screen`."""


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
        made = self._made(numbers)
        return unit_range(made.clamp(0, 1).mul(255).round().to(torch.uint8)) if self.rounded else made

    def _made(self, numbers: np.ndarray) -> Tensor:
        pixels = unit_range(moved(self.pixels[torch.from_numpy(self.at[numbers])], self.device))
        if self.which is None:
            return self.perturbations[0](pixels)
        # One pose at a time, since one pose for many images is cheaper than a pose for each.
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
