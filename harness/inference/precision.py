"""Copies of a network in lower precision.

They show how far a precision alone moves predictions.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from harness.data import LabelledImages
    from harness.inference.role import RoleModel

Precision = Literal["float32", "float16", "bfloat16", "int8"]
_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_LEVELS = 255
"""Steps of 8 bits."""


def in_precision(model: RoleModel, images: LabelledImages, precision: Precision) -> np.ndarray:
    """Return the logits of a copy of the model, (N, classes), whose layers work in this precision.

    Weights, inputs and outputs of each layer are rounded; sums stay float32. In int8, each tensor
    has one range from its least to its largest value on these images (Jacob et al. 2018,
    "Quantization and Training of Neural Networks"), the loosest of the usual conversions.

    The model needs layers, see `Provides`.
    """
    classifier = model.classifier
    if precision == "float32":
        return model.predict(images).logits
    network = copy.deepcopy(classifier.plain)
    rounding = _Int8() if precision == "int8" else _Cast(_TYPES[precision])
    _round_layers(network, rounding)

    def logits() -> np.ndarray:
        # With one worker, ranges do not depend on the order of threads.
        backend = classifier.backend_for(network, workers=1)
        return backend.logits(classifier.inputs(images), classes=len(images.classes), exact=True)

    if isinstance(rounding, _Int8):
        logits()
        rounding.measures = False
    return logits()


class _Cast:
    """Rounding to a floating-point type."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def weights(self, values: Tensor) -> Tensor:
        return values.to(self.dtype).to(values.dtype)

    def activations(self, _name: str, values: Tensor) -> Tensor:
        return self.weights(values)


class _Int8:
    """Rounding to 255 steps of the range of a tensor, which includes 0.

    Ranges of activations are measured first.
    """

    def __init__(self) -> None:
        self.measures = True
        self._ranges: dict[str, tuple[float, float]] = {}

    def weights(self, values: Tensor) -> Tensor:
        return (
            _in_steps(values, float(values.min()), float(values.max()))
            if values.ndim > 1
            else values
        )

    def activations(self, name: str, values: Tensor) -> Tensor:
        if not self.measures:
            return _in_steps(values, *self._ranges.get(name, (0.0, 0.0)))
        least, largest = self._ranges.get(name, (0.0, 0.0))
        self._ranges[name] = min(least, float(values.min())), max(largest, float(values.max()))
        return values


def _in_steps(values: Tensor, least: float, largest: float) -> Tensor:
    least, largest = min(least, 0.0), max(largest, 0.0)
    step = (largest - least) / _LEVELS or 1.0
    lowest = round(least / step)
    return (values / step).round().clamp(lowest, lowest + _LEVELS) * step


def _round_layers(network: nn.Module, rounding: _Cast | _Int8) -> None:
    """Round weights, and inputs and outputs of the network and of its innermost layers."""
    with torch.no_grad():
        for values in [*network.parameters(), *network.buffers()]:
            if values.is_floating_point():
                values.copy_(rounding.weights(values))
    layers = [
        (name, layer)
        for name, layer in network.named_modules()
        if not name or not list(layer.children())
    ]
    for name, layer in layers:
        layer.register_forward_pre_hook(_before(f"{name} in", rounding))
        layer.register_forward_hook(_after(f"{name} out", rounding))


def _before(name: str, rounding: _Cast | _Int8) -> Callable[..., Any]:
    def round_inputs(_layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            _rounded(f"{name} {number}", values, rounding) for number, values in enumerate(inputs)
        )

    return round_inputs


def _after(name: str, rounding: _Cast | _Int8) -> Callable[..., Any]:
    def round_outputs(_layer: nn.Module, _inputs: Any, outputs: Any) -> Any:
        return _rounded(name, outputs, rounding)

    return round_outputs


def _rounded(name: str, values: Any, rounding: _Cast | _Int8) -> Any:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        return values
    return rounding.activations(name, values)
