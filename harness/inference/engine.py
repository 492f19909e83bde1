"""Engines run a model over images under perturbations.

Batches are padded to a fixed size, and run in this process or on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.base.codes import Code
from harness.base.errors import InputError, Interruption
from harness.data.images import unit_range
from harness.inference import devices, screening
from harness.inference.devices import batch_size, in_batches, moved
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from harness.perturb import Perturbation


class ModelError(InputError):
    """The model gives no valid predictions: it raised, or returned NaN or the wrong shape."""

    code = Code.MODEL_RAISED


class BackendLostError(Interruption):
    """The backend is lost or cannot work; the message says why. The run is then inconclusive."""

    code = Code.BACKEND_LOST


@dataclass(frozen=True, eq=False)
class Perturbed:
    """M inputs of a model: image `at[i]` of `pixels`, under perturbation `which[i]`.

    Another process can make the inputs from this description.

    Attributes:
        pixels: The images, (N, C, H, W) uint8.
        at: The image of each input, (M,) int64.
        device: The device of the inputs.
        perturbations: The perturbations.
        which: The perturbation of each input, (M,) int64, or None if all inputs are under the first
            one.
        rounded: Whether inputs are rounded to 8 bits.
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
        """Return the inputs of these numbers, (K,) int64, on the device.

        Returns:
            Pixels, (K, C, H, W) float32 in [0, 1].
        """
        positions = torch.from_numpy(self.at[numbers])
        pixels = unit_range(moved(self.pixels[positions], self.device))
        if self.which is None:
            pixels = self.perturbations[0](pixels)
        else:
            # One pose at a time, since one pose for many images is cheaper than a pose for each.
            which = self.which[numbers]
            cuts = [0, *(np.flatnonzero(np.diff(which)) + 1), len(which)]
            runs = [slice(*cut) for cut in pairwise(cuts)]
            pixels = torch.cat([self.perturbations[which[run.start]](pixels[run]) for run in runs])
        if self.rounded:
            return unit_range(pixels.clamp(0, 1).mul(255).round().to(torch.uint8))
        return pixels

    def only(self, numbers: np.ndarray) -> Perturbed:
        """Return the inputs of these numbers, numbered from 0."""
        which = None if self.which is None else self.which[numbers]
        return replace(self, at=self.at[numbers], which=which)

    def __str__(self) -> str:
        under = f"under {self.perturbations[0]}"
        if self.which is not None:
            under = f"in {len(self.perturbations)} poses"
        return f"images {(len(self), *self.shape)} {under}"


BatchTask = Callable[[Any, Perturbed, int, int], np.ndarray]
"""A picklable task on N inputs with a model, in batches of a size with so many in parallel.

It returns N rows in order.
"""


@dataclass(frozen=True)
class Logits:
    """The task of logits, (N, classes) float32, by a model in float32, or in bfloat16 if `low`.

    The last batch is filled up with black images, unless `fills` is false.
    """

    classes: int
    low: bool = False
    fills: bool = True

    def __call__(self, model: Any, inputs: Perturbed, size: int, workers: int) -> np.ndarray:
        """Return the logits of each input.

        Raises:
            ModelError: The logits are not finite, or not one per class.
        """
        precision = torch.bfloat16 if self.low else None

        def predict(numbers: np.ndarray) -> Tensor:
            images = len(numbers)
            with torch.inference_mode():
                pixels = padded(inputs(numbers), size if self.fills else images)
                pixels = pixels.contiguous(memory_format=torch.channels_last)
                # Set in both cases, since a model may have left autocast on in this thread.
                with torch.autocast(inputs.device.type, precision, enabled=self.low):
                    return shaped(model(pixels), (len(pixels), self.classes), images=images)

        parts = in_batches(predict, np.arange(len(inputs)), size=size, workers=workers)
        # Only this line waits for an accelerator.
        return np.asarray(finite(torch.cat(parts).cpu()).numpy())


class Engine:
    """The backend that runs a model in this process.

    The bits of a result do not depend on the number, order or combination of calls.

    Args:
        model: The model.
        device: Its device.
        workers: The number of parallel batches, on one thread each. One thread feeds an
            accelerator.
        screen: Whether a first pass may use bfloat16, see `Screen`. The predicted classes are those
            of float32.
        batch: The size of a batch that a predictor decides; None for the size that fits.
        fills: Whether black images fill up the last batch.
        confirm: A function that confirms the answers of each call.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: torch.device,
        workers: int,
        screen: bool = True,
        batch: int | None = None,
        fills: bool = True,
        confirm: Callable[[], None] | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self._batch = batch
        self._fills = fills
        self._confirm = confirm
        self.workers = 1 if devices.is_accelerator(device) else workers
        screens = screen and screening.has_bfloat16(device)
        self.screen = screening.Screen(model) if screens else None
        """Screen in bfloat16; None if only float32 runs."""
        self._halvings = 0

    @property
    def decides(self) -> Hashable:
        """Return all that determines the bits besides model and inputs.

        It holds the limits of batch sizes, the inputs that measure the precision, and the platform.
        The sizes follow from them. Its `repr` is part of cache keys.
        """
        capability = torch.backends.cpu.get_cpu_capability()
        if self._batch:
            return "predictor", self._batch, capability
        name = self.screen and (self.screen.name, screening.TRIED_IF_LARGE, screening.LARGE)
        room: Hashable = (devices.ACCELERATOR_BATCHES, devices.ACCELERATOR_ROOM)
        if self.device.type == "cpu":
            room = devices.ROOM
        platform = (self.device.type, name, torch.__version__, capability)
        return (devices.FLOAT32_BATCH, devices.BFLOAT16_BATCH), room, self._halvings, platform

    def measure_precision_on(self, inputs: Perturbed, *, name: str) -> None:
        """Register the inputs that measure the error of bfloat16 at the first need.

        Without them the first inputs do, and the last bits of clear predictions depend on the order
        of calls.

        Args:
            inputs: The inputs.
            name: A text that identifies them.
        """
        if self.screen is not None:
            self.screen = screening.Screen(self.model, inputs, name)

    def screens_for(self, count: int) -> bool:
        """Return whether `logits` may be inexact for `count` inputs."""
        return self.screen is not None and self.screen.saves_for(count)

    def logits(self, inputs: Perturbed, *, classes: int, exact: bool = False) -> np.ndarray:
        """Return the logits of N inputs, (N, classes) float32.

        Args:
            inputs: The inputs.
            classes: The number of classes.
            exact: Whether all are computed in float32. Otherwise only the class of the largest is
                that of float32.

        Raises:
            ModelError: The model fails; the message names the inputs.
        """
        run = partial(self._run, classes=classes)
        with named(inputs):
            if exact or self.screen is None or not self.screens_for(len(inputs)):
                return run(inputs)
            return self.screen.logits(inputs, run, size=partial(self._size, inputs))

    def over_batches(
        self, task: BatchTask, model: Any, inputs: Perturbed, *, size: int
    ) -> np.ndarray:
        """Return the task's result for the inputs with the model, in batches of this size."""
        return task(model, inputs, size, self.workers)

    def _run(self, inputs: Perturbed, low: Any = None, *, classes: int) -> np.ndarray:
        """Return logits of the model, (N, classes), or those in bfloat16 of the model `low`."""
        if not len(inputs):
            return np.empty((0, classes), dtype=np.float32)
        task = Logits(classes, low is not None, self._fills)
        model = self.model if low is None else low
        while True:
            size = self._size(inputs, low=task.low)
            try:
                rows = self.over_batches(task, model, inputs, size=size)
            except torch.OutOfMemoryError:
                # Results of larger batches are dropped, so all batches of a call have one size.
                if size == 1:
                    raise
                self._halvings += 1
            else:
                if self._confirm:
                    self._confirm()
                return rows

    def _size(self, inputs: Perturbed, *, low: bool = False) -> int:
        if self._batch:
            return self._batch
        fitting = batch_size(inputs.shape, self.device, screening=low)
        return max(1, fitting >> self._halvings)


MakeBackend = Callable[..., Engine]
"""Maker of a backend from a model in evaluation mode and some of Engine's arguments.

These are `device`, `workers` and `screen`.
"""


@contextmanager
def named(what: object) -> Iterator[None]:
    """Turn any exception of a model into a `ModelError` that names its inputs."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise ModelError(f"the model failed on {what}: {error}") from error


def padded(pixels: Tensor, size: int) -> Tensor:
    """Return the images (N, C, H, W), padded with black ones to `size`."""
    missing = size - len(pixels)
    if not missing:
        return pixels
    return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])])


def shaped(logits: object, shape: tuple[int, int], *, images: int) -> Tensor:
    """Return the logits of the first `images` as float32.

    Raises:
        ModelError: The logits are no tensor of this shape.
    """
    if not isinstance(logits, Tensor):
        raise ModelError(f"the model returned {type(logits).__name__}, expected a tensor of logits")
    if logits.shape != shape:
        raise ModelError(
            f"the model returned logits of shape {tuple(logits.shape)} "
            f"for {shape[0]} images of data with {shape[1]} classes, expected {shape}"
        )
    return logits[:images].float()


def finite(logits: Tensor) -> Tensor:
    """Return the logits (N, classes); raises `ModelError` unless all are finite."""
    invalid = ~logits.isfinite()
    if invalid.any():
        images = int(invalid.any(1).sum())
        raise ModelError(f"the model returned NaN or infinity for {images} images")
    return logits
