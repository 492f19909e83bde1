"""The layer of an original where its artifact begins to differ, found by the values that both compute.

Exports rename layers and merge them, so values are compared: a layer is equal if the artifact computes its output
somewhere, but for float noise. An export merges layers, such as a batch norm with its convolution. A merged layer has
no tensor of its own. An equal layer depends on it, or the one that takes its output is far nearer to the artifact.
Where branches run in parallel, the next layer need not depend on it. This is a diagnosis; it decides nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import InputError
from harness.inference.predictors.network import PredictorNetwork
from harness.inference.predictors.openvino_ir import OpenVinoPredictor
from harness.networks.checkpoints.onnx_files import OnnxNetwork, tensors_of
from harness.networks.process import evaluating, logits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel

NOISE = 1e-4
"""Distance up to which float32 explains a difference. Lossless exports of the shipped model stay below 1e-6."""
_EXACT = NOISE / 5
"""Distance of a later layer up to which one that it depends on is merged. EfficientNet-Lite0 stays below 1e-5."""
LOGITS = "logits"
_IMAGES = 4
_BEYOND = 5
"""Layers after the first different one that are shown."""
_NEARER = 10
"""The least ratio of the distances of a merged layer and of the layer that it became part of."""


@dataclass(frozen=True)
class Layer:
    """A layer's distance from the nearest tensor of the artifact, as a share of the spread of its output.

    It is infinite where the artifact has no tensor of this size. A `merged` layer is part of a later one.
    """

    name: str
    distance: float
    merged: bool = False

    @property
    def outcome(self) -> str:
        """Say whether it is equal."""
        if self.distance <= NOISE:
            return "equal"
        return "merged with a later one" if self.merged else "different"


@dataclass(frozen=True)
class LayerDifferences:
    """The layers of an original in the order of execution, each beside what its artifact computes."""

    layers: tuple[Layer, ...]

    @property
    def first(self) -> Layer | None:
        """Return the first layer that differs; None for none."""
        return next((layer for layer in self.layers if layer.outcome == "different"), None)

    @property
    def shown(self) -> tuple[Layer, ...]:
        """Return the layers up to some beyond the first that differs."""
        first = self.first
        return self.layers if first is None else self.layers[: self.layers.index(first) + 1 + _BEYOND]

    @property
    def sentence(self) -> str:
        """Say where the difference begins."""
        first = self.first
        if first is None:
            return f"Layers: all {len(self.layers)} are equal, up to float noise."
        before = [layer.name for layer in self.layers[: self.layers.index(first)] if layer.distance <= NOISE]
        after = f"; up to {before[-1]} all are equal" if before else ", the first one"
        size = f" by {first.distance:.2g} of its spread" if math.isfinite(first.distance) else ""
        return f"Layers: the difference begins at {first.name}{size}{after}."

    def as_json(self) -> dict[str, Any]:
        """Return the sentence, the first layer and all distances in plain types."""
        return {
            "sentence": self.sentence,
            "first": self.first and self.first.name,
            "distances": {
                layer.name: layer.distance if math.isfinite(layer.distance) else None for layer in self.layers
            },
        }


def layer_differences(
    artifact: RoleModel, original: RoleModel, images: LabelledImages, differ: np.ndarray
) -> LayerDifferences:
    """Compare the layers of an original with its artifact on four images, those that `differ` (N,) first.

    Raises `InputError` for an original without layers, and for an artifact that shows no tensors.
    """
    if not original.provides.layers:
        raise InputError(
            f"{original.path}: gives predictions only; name the network of PyTorch that the artifact is made from",
            setting="layers",
        )
    model, shown = original.classifier.plain, np.argsort(~differ, kind="stable")[:_IMAGES]
    pixels = original.classifier.pixels(images, shown)
    calls = _outputs(model, pixels)
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    for tensor in _tensors_of(artifact, pixels):
        found[tensor.size].append(tensor)
    distances = [_distance(call.output, found[call.output.size]) for call in calls[:-1]]
    with torch.no_grad():
        answers = logits_of(artifact.classifier.plain(pixels))[0].cpu().float().numpy()
    distances.append(_distance(_centered(calls[-1].output), [_centered(answers)]))
    layers: list[Layer] = []
    begun = False
    for number, (call, distance) in enumerate(zip(calls, distances, strict=True)):
        merged = False
        # Layers before the first different one that have no tensor of their own are merged.
        if not (call.unchanged or begun) and distance > NOISE:
            followers = [later for later, each in zip(distances, calls, strict=True) if each.takes == number]
            merged = min(followers, default=distance) < distance / _NEARER
            # A difference that later layers dilute is no merger.
            enough = min(_EXACT, distance / _NEARER**2)
            equal = [at for at in range(number + 1, len(calls)) if distances[at] <= enough]
            if equal and not merged:
                shaken = _outputs(model, pixels, shaking=number)
                merged = any(not np.array_equal(shaken[at].output, calls[at].output) for at in equal)
            begun = not merged
        if not call.unchanged:
            layers.append(Layer(call.name, distance, merged))
    return LayerDifferences(tuple(layers))


@dataclass(frozen=True, eq=False)
class _Call:
    """A call of a layer: its output (N, ...), and the number of the call that its input is the output of.

    It is `unchanged` if its output is that of the call before, as of a `Sequential` behind its last layer.
    """

    name: str
    output: np.ndarray
    takes: int | None = None
    unchanged: bool = False


def _outputs(model: nn.Module, pixels: Tensor, *, shaking: int | None = None) -> list[_Call]:
    """Return each call of a layer in the order of execution, and last the logits.

    Calls without a tensor are left out. The output of the call with the number `shaking` is replaced by noise of its
    spread.
    """
    calls: list[_Call] = []
    given: list[Tensor] = []

    def recorder(name: str) -> Callable[..., Tensor | None]:
        def record(_layer: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor | None:
            if not isinstance(output, Tensor) or not output.is_floating_point() or len(output) != len(pixels):
                return None
            values = output.detach().cpu().float().numpy().copy()
            shaken = None
            if len(calls) == shaking:
                noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
                shaken = output.mean() + noise * (output.std() + 1)
            takes = next((number for number, each in enumerate(given) if inputs and each is inputs[0]), None)
            calls.append(_Call(name, values, takes, bool(calls) and np.array_equal(calls[-1].output, values)))
            given.append(output if shaken is None else shaken)
            return shaken

        return record

    names = [name for name, _ in model.named_modules() if name]
    with torch.no_grad(), evaluating(model, {name: recorder(name) for name in names}):
        logits = logits_of(model(pixels))[0]
    return [*calls, _Call(LOGITS, logits.detach().cpu().float().numpy())]


def _tensors_of(artifact: RoleModel, pixels: Tensor) -> list[np.ndarray]:
    """Return the tensors that an artifact computes for pixels, each (N, ...)."""
    model = artifact.classifier.plain
    if isinstance(model, PredictorNetwork) and isinstance(model.predictor, OpenVinoPredictor):
        return model.predictor.tensors(pixels.cpu().numpy())
    if network := next((each for each in model.modules() if isinstance(each, OnnxNetwork)), None):
        taken: list[np.ndarray] = []  # It may be within another model, which prepares its input.
        handle = network.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].cpu().numpy()))
        try:
            with torch.no_grad():
                model(pixels)
        finally:
            handle.remove()
        return tensors_of(network, taken[0])
    if not artifact.provides.layers:
        raise InputError(
            f"{artifact.path}: gives predictions only; layers can be compared of a checkpoint, of an ONNX file and of "
            "OpenVINO's files",
            setting="layers",
        )
    return [call.output for call in _outputs(model, pixels)]


def _centered(logits: np.ndarray) -> np.ndarray:
    """Return logits (N, classes) whose mean for each image is 0: logarithms of probabilities are the same then."""
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def _distance(output: np.ndarray, tensors: Sequence[np.ndarray]) -> float:
    """Return the least distance of an output from tensors of its size, with channels first or last, by its spread."""
    spread = float(output.std()) or 1.0
    layouts = [output.ravel()]
    if output.ndim == 4:  # noqa: PLR2004  (N, C, H, W)
        layouts.append(output.transpose(0, 2, 3, 1).ravel())
    pairs = [(layout, tensor.ravel()) for layout in layouts for tensor in tensors]
    return min((float(np.sqrt(np.mean((one - other) ** 2))) / spread for one, other in pairs), default=math.inf)
