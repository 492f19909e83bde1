"""Where forward passes run: what every backend can do, and the table of those that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness.errors import InputError
from harness.inference.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy as np
    import torch
    from torch import Tensor, nn

    Inputs = Callable[[np.ndarray], Tensor]
    """Makes the inputs at these positions, (M,) int64, as pixels on the device, (M, C, H, W) float32 in [0, 1]."""


class Backend(Protocol):
    """Runs one model over many inputs, in batches of whatever size suits it.

    The `count` inputs of a call are numbered from 0, and are made by a callable as they are needed, several batches at
    a time. Results have the same bits however often, in whatever order and beside whatever else they are asked for.
    """

    @property
    def decides(self) -> Hashable:
        """Return what decides the bits of results besides the model and its inputs; the cache goes by its `repr`."""

    def measure_precision_on(self, count: int, inputs: Inputs, *, name: str) -> None:
        """Have it measured on these inputs, which `name` tells from others, how far answers may be from float32's."""

    def screens_for(self, count: int) -> bool:
        """Return whether `logits` of so many inputs may differ from `exact_logits`."""

    def logits(self, count: int, inputs: Inputs, *, classes: int, what: str) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes) float32, of which the largest is float32's.

        Raises `ModelError`, which names `what`, when the model fails.
        """

    def exact_logits(self, count: int, inputs: Inputs, *, classes: int, what: str) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes), all computed in float32; see `logits`."""


class MakeBackend(Protocol):
    """What a backend is made by: of a model in evaluation mode, that lies on the device."""

    def __call__(self, model: nn.Module, *, device: torch.device, workers: int, screen: bool) -> Backend:
        """Return a backend for the model; at most `workers` batches side by side, none inexact unless `screen`."""


BACKENDS: dict[str, MakeBackend] = {
    "process": Engine,
}
"""What runs models, by name."""


def backend_named(name: str) -> MakeBackend:
    """Return what makes a backend; raises `InputError`, which lists the names, for one that there is not."""
    if name not in BACKENDS:
        raise InputError(f"backend {name!r}: there is none of this name; expected {' or '.join(BACKENDS)}")
    return BACKENDS[name]
