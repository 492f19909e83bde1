"""Forward passes in this process: fixed padded batches, one thread each; bfloat16 screens, float32 confirms."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.inference import devices, screening
from harness.inference.devices import batch_size, in_batches, side_by_side
from harness.inference.screening import NEVER, TRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator


class ModelError(InputError):
    """The model gives no valid predictions: it raised, or returned NaN or the wrong shape."""

    code = Code.MODEL_RAISED


class Engine:
    """The backend that runs a model in this process, with `workers` parallel batches on one thread each.

    If the device supports bfloat16, a first pass uses it. Images without a clear lead of one class then run again in
    float32. The predicted classes are therefore those of float32, at about two thirds of the time. The difference of
    the two precisions is measured on the registered inputs, or else on the first ones. A model that fails in bfloat16,
    or differs much, runs only in float32. One thread feeds an accelerator.
    """

    def __init__(self, model: nn.Module, *, device: torch.device, workers: int, screen: bool = True) -> None:
        self.model = model
        self.device = device
        self.workers = side_by_side(device, workers)
        self.screens = screen and screening.has_bfloat16(device)
        """True if bfloat16 may screen on this device, for a model that allows it."""
        self._reference: tuple[int, Callable[[np.ndarray], Tensor]] | None = None
        self._reference_name = ""
        self._lead: float | None = None if self.screens else NEVER
        self._tried = TRIED
        self._lowered: nn.Module | None = None
        self._shape: tuple[int, ...] | None = None
        self._halvings = 0

    @property
    def decides(self) -> Hashable:
        """Return all that determines the last bits: limits of batch sizes, the inputs of the measurement, the platform.

        Batch sizes and the number of measured images follow from these and from model and images.
        """
        name = (self._reference_name, screening.TRIED_IF_LARGE, screening.LARGE) if self.screens else None
        platform = (self.device.type, name, torch.__version__, torch.backends.cpu.get_cpu_capability())
        room = devices.ROOM if self.device.type == "cpu" else (devices.ACCELERATOR_BATCHES, devices.ACCELERATOR_ROOM)
        return (devices.FLOAT32_BATCH, devices.BFLOAT16_BATCH), room, self._halvings, platform

    def measure_precision_on(self, count: int, inputs: Callable[[np.ndarray], Tensor], *, name: str) -> None:
        """Register the inputs for measuring which bfloat16 predictions are clear; the measurement runs at first need.

        Without it the first inputs are used, and the last bits of clear predictions depend on the order of calls.
        """
        self._reference, self._reference_name = (count, inputs), name
        self.__dict__.pop("_multiplications", None)

    def screens_for(self, count: int) -> bool:
        """Return whether bfloat16 screens `count` inputs; for few inputs of a small network it would save no time."""
        if not self.screens or count < screening.TRIED_IF_LARGE:
            return False
        return count > TRIED or screening.tried_for(self._multiplications) < TRIED

    def exact_logits(
        self, count: int, inputs: Callable[[np.ndarray], Tensor], *, classes: int, what: str
    ) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes), all computed in float32; see `logits`."""
        with named(what):
            return self._run(np.arange(count), inputs, classes)

    def logits(
        self,
        count: int,
        inputs: Callable[[np.ndarray], Tensor],
        *,
        classes: int,
        what: str,
    ) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes) float32.

        `inputs` makes the pixels at given positions on the device. The predicted classes are those of float32. Logits
        are in float32 for images without a clear lead. Raises `ModelError`, which names `what`, if the model fails.
        """
        everything = np.arange(count)
        with named(what):
            screened = self.screens_for(count)
            if screened and self._lead is None:
                self._measure_lead(*(self._reference or (count, inputs)), classes)
            if not screened or self._lead is None or self._lead == NEVER:
                return self._run(everything, inputs, classes)
            logits = self._run(everything, inputs, classes, screened_by=self._lowered)
            leads = _leads(logits)
            doubted = int((~(leads > self._lead)).sum())
            if self._tried < TRIED:
                # The measurement used fewer images than for a small network. At least one batch, with the smallest
                # leads, therefore runs again and verifies the estimate.
                size = self._size(low=False)
                doubted = min(count, size * max(1, -(-doubted // size)))
            if not doubted:
                return logits
            again = np.sort(np.argsort(leads, kind="stable")[:doubted])
            confirmed = self._run(again, inputs, classes)
            if self._tried < TRIED and 2 * float(np.abs(confirmed - logits[again]).max()) > self._lead:
                return self._run(everything, inputs, classes)
            logits[again] = confirmed
            return logits

    @cached_property
    def _multiplications(self) -> int:
        """Return the multiplications for one image of the measurement; zero without registered inputs."""
        if self._reference is None or not self._reference[0]:
            return 0
        (counted,) = in_batches(self._counted, np.arange(1), size=1, workers=1)
        return counted

    def _counted(self, first: np.ndarray) -> int:
        assert self._reference is not None
        return screening.multiplications_per_image(self.model, self._reference[1](first))

    def _measure_lead(self, count: int, inputs: Callable[[np.ndarray], Tensor], classes: int) -> None:
        """Find the lead above which a bfloat16 prediction is clear; infinite if too few would be clear."""
        self._tried = screening.tried_for(self._multiplications)
        some = np.arange(min(count, self._tried))
        reference = self._run(some, inputs, classes)
        self._lead = NEVER
        # Weights cast in advance suit any model, except one that uses them in other ways than autocast does.
        for make in (screening.lowered, lambda model: model):
            try:
                self._lowered = make(self.model)
                screened = self._run(some, inputs, classes, screened_by=self._lowered)
            except Exception:  # noqa: S112  A model need not support bfloat16.
                continue
            lead = screening.clear_lead(screened, reference)
            if (_leads(screened) > lead).mean() > 1 / 2:
                self._lead = lead
            return

    def _run(
        self,
        positions: np.ndarray,
        inputs: Callable[[np.ndarray], Tensor],
        classes: int,
        *,
        screened_by: nn.Module | None = None,
    ) -> np.ndarray:
        """Return logits in float32, (M, classes), or those of a model in bfloat16, `screened_by`."""
        model, low = (self.model, False) if screened_by is None else (screened_by, True)

        def predict(some: np.ndarray) -> Tensor:
            with torch.inference_mode():
                pixels = inputs(some)
                self._shape = tuple(pixels.shape[1:])
                size = self._size(low=low)
                # Set in both cases, since a model may have left autocast on in this lasting thread.
                with torch.autocast(self.device.type, torch.bfloat16 if low else None, enabled=low):
                    return torch.cat([self._answers(model, part, size, classes) for part in torch.split(pixels, size)])

        if not len(positions):
            return np.empty((0, classes), dtype=np.float32)
        if self._shape is None:
            # Before the first input, the shape of the registered ones limits the number that are made at a time.
            self._shape = (1, 1)
            if self._reference is not None and self._reference[0]:
                self._shape = tuple(self._reference[1](np.arange(1)).shape[1:])
        while True:
            try:
                parts = in_batches(predict, positions, size=self._size(low=low), workers=self.workers)
            except torch.OutOfMemoryError:
                # Results of larger batches are dropped, so all batches of a call have one size.
                if self._size(low=low) == 1:
                    raise
                self._halvings += 1
            else:
                # Only this line waits for an accelerator.
                return np.asarray(finite(torch.cat(parts).cpu()).numpy())

    def _answers(self, model: nn.Module, pixels: Tensor, size: int, classes: int) -> Tensor:
        batch = self._batch_of(pixels, size)
        return shaped(model(batch), (len(batch), classes), images=len(pixels))

    def _batch_of(self, pixels: Tensor, size: int) -> Tensor:
        """Return images as a batch of this size, padded with black images."""
        return padded(pixels, size).contiguous(memory_format=torch.channels_last)

    def _size(self, *, low: bool) -> int:
        """Return the batch size for the latest shape of inputs."""
        assert self._shape is not None
        return max(1, batch_size(self._shape, self.device, screening=low) >> self._halvings)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn any exception of a model into a `ModelError` that names its inputs."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise ModelError(f"the model failed on {what}: {error}") from error


def _leads(logits: np.ndarray) -> np.ndarray:
    """Return the lead of the first class over the second, (N,); infinite for a single class."""
    if logits.shape[1] == 1:
        return np.full(len(logits), np.inf)
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def padded(pixels: Tensor, size: int) -> Tensor:
    """Return the images (N, C, H, W), padded with black ones to `size`."""
    missing = size - len(pixels)
    return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])]) if missing else pixels


def checked(logits: object, shape: tuple[int, int], *, images: int) -> Tensor:
    """Return the logits of the first `images` as float32; raises `ModelError` unless all are finite and of `shape`."""
    return finite(shaped(logits, shape, images=images))


def shaped(logits: object, shape: tuple[int, int], *, images: int) -> Tensor:
    """Return the logits of the first `images` as float32; raises `ModelError` unless they are of `shape`."""
    if not isinstance(logits, Tensor):
        raise ModelError(f"the model returned {type(logits).__name__}, expected a tensor of logits")
    if logits.shape != shape:
        raise ModelError(
            f"the model returned logits of shape {tuple(logits.shape)} for {shape[0]} images of data with "
            f"{shape[1]} classes, expected {shape}"
        )
    return logits[:images].float()


def finite(logits: Tensor) -> Tensor:
    """Return the logits (N, classes); raises `ModelError` unless all are finite."""
    if not logits.isfinite().all():
        raise ModelError(f"the model returned NaN or infinity for {int((~logits.isfinite()).any(1).sum())} images")
    return logits
