"""Screening by bfloat16.

When it saves time, which predictions are clear, and the passes in both precisions.
"""

from __future__ import annotations

import math
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.inference.devices import in_batches
from harness.networks.process import evaluating, evaluation_copy

if TYPE_CHECKING:
    from collections.abc import Callable

TRIED = 250
"""Number of images for the comparison of both precisions before bfloat16 may screen. Calls with
more images save that time for any model. Calls with fewer take little time, except for a large
network.
"""
TRIED_IF_LARGE = 64
"""The same for a large network, since more float32 passes would be much of a run. Calls with fewer
images are not screened.
"""
LARGE = 400_000_000
"""Multiplications per image of a large network; comparing `TRIED` images would take seconds."""
CAUTION = 4.0
"""A prediction is clear if its lead is above this many times the largest observed difference of a
logit. The lead of a wrong prediction is at most twice the difference, so this is twice the
necessary factor.
"""
_WITHOUT_BFLOAT16 = {
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX2_VNNI_2",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
}
"""Limits of oneDNN's instruction set without bfloat16."""
_LOWERED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers with weights that autocast uses in bfloat16."""


class Screen:
    """A first pass in bfloat16: only images without a clear lead of one class run again in float32.

    The predicted classes are therefore those of float32, at about two thirds of the time. The
    difference of the two precisions is measured on the registered `inputs` of this `name`, or else
    on the first ones. A model that fails in bfloat16, or differs much, runs only in float32.
    """

    def __init__(self, model: nn.Module, inputs: Any = None, name: str = "") -> None:
        self.name = name
        self._model, self._inputs = model, inputs
        self._lead: tuple[float, nn.Module | None] | None = None
        """The lead above which a prediction is clear, and the model that screens.

        None without one.
        """

    @cached_property
    def _tried(self) -> int:
        """Return the number of images for the comparison of precisions."""
        if (inputs := self._inputs) is None or not len(inputs):
            return TRIED
        (work,) = in_batches(
            lambda first: multiplications_per_image(self._model, inputs(first)),
            np.arange(1),
            size=1,
            workers=1,
        )
        return TRIED_IF_LARGE if work >= LARGE else TRIED

    def saves_for(self, count: int) -> bool:
        """Return whether bfloat16 screens `count` inputs.

        For few inputs of a small network it would save no time.
        """
        return count >= TRIED_IF_LARGE and (count > TRIED or self._tried < TRIED)

    def logits(
        self, inputs: Any, run: Callable[..., np.ndarray], *, size: Callable[[], int]
    ) -> np.ndarray:
        """Return the logits of N inputs, (N, classes); those without a clear lead are in float32.

        `run` returns the logits of inputs in float32, or in bfloat16 by a second argument, the
        model. `size` is the number of inputs in a batch in float32.
        """
        if self._lead is None:
            self._lead = self._measured(self._inputs if self._inputs is not None else inputs, run)
        clear, low = self._lead
        if low is None:
            return run(inputs)
        logits = run(inputs, low)
        leads = _leads(logits)
        doubted = int((~(leads > clear)).sum())
        if self._tried < TRIED:
            # The measurement used fewer images than for a small network. At least one batch, with
            # the smallest leads, therefore runs again and verifies the estimate.
            doubted = min(len(inputs), size() * max(1, -(-doubted // size())))
        again = np.sort(np.argsort(leads, kind="stable")[:doubted])
        confirmed = run(inputs.only(again))
        if self._tried < TRIED and 2 * float(np.abs(confirmed - logits[again]).max()) > clear:
            return run(inputs)
        logits[again] = confirmed
        return logits

    def _measured(
        self, inputs: Any, run: Callable[..., np.ndarray]
    ) -> tuple[float, nn.Module | None]:
        some = inputs.only(np.arange(min(len(inputs), self._tried)))
        reference = run(some)
        # Weights cast in advance suit any model, except one that uses them in other ways than
        # autocast does.
        for make in (lowered, lambda model: model):
            try:
                low = make(self._model)
                screened = run(some, low)
            except Exception:  # noqa: S112  A model need not support bfloat16.
                continue
            clear = clear_lead(screened, reference)
            return (clear, low) if (_leads(screened) > clear).mean() > 1 / 2 else (math.inf, None)
        return math.inf, None


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN's own test: without AVX-512, bfloat16 is emulated and slower than float32. The test
    # only looks at the processor, but an environment variable may limit oneDNN further.
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BFLOAT16
    supported = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return device.type == "cpu" and supported and not limited


def clear_lead(screened: np.ndarray, reference: np.ndarray) -> float:
    """Return the lead above which a bfloat16 prediction is clear.

    The logits (N, classes) are of both precisions. With fewer images, the largest observed
    difference is smaller, so the factor of caution grows. It uses the quotient of logarithms. For
    the largest draw of a normal distribution, the quotient of their roots would suffice.
    """
    caution = CAUTION * max(1.0, math.log(TRIED) / math.log(max(2, len(reference))))
    return caution * float(abs(screened - reference).max())


def _leads(logits: np.ndarray) -> np.ndarray:
    """Return the lead of the first class over the second, (N,); infinite for a single class."""
    if logits.shape[1] == 1:
        return np.full(len(logits), np.inf)
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def multiplications_per_image(model: nn.Module, image: Tensor) -> int:
    """Return the number of multiplications in linear layers and convolutions, for (1, C, H, W).

    Zero for a model that cannot be counted, such as one that fails on a single image.
    """
    counted = []

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        counted.append(output.numel() * layer.weight[0].numel())  # type: ignore[index]

    try:
        layers = {
            name: count for name, layer in model.named_modules() if isinstance(layer, _LOWERED)
        }
        with torch.no_grad(), evaluating(model, layers):
            model(image)
    except (
        Exception
    ):  # The model may raise any exception; a later pass raises it again and reports it.
        return 0
    return sum(counted)


def lowered(model: nn.Module) -> nn.Module:
    """Return a copy for autocast to bfloat16 with weights cast once.

    It gives the same bits as autocast alone.

    In inference, autocast casts the weights again in each batch, which takes longer than a small
    batch of a large transformer. Weights of attention itself are not cast: if they differ in
    precision from its input, torch takes a path that is several times slower.
    """
    copied = evaluation_copy(model)
    for layer in copied.modules():
        if type(layer) in _LOWERED:
            layer.to(torch.bfloat16)
    return copied
