"""The layer of an original where its artifact begins to differ, found by the values that both compute.

Exports rename layers and merge them, so values are compared: a layer is equal if the artifact computes its output
somewhere, but for float noise. An export merges layers, such as a batch norm with its convolution. A merged layer has
no tensor of its own. An equal layer depends on it, or the one that takes its output is far nearer to the artifact.
Where branches run in parallel, the next layer need not depend on it. This is a diagnosis; it decides nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import InputError
from harness.inference.predictors.network import PredictorNetwork
from harness.inference.predictors.openvino_ir import OpenVinoPredictor
from harness.networks.checkpoints.onnx_files import OnnxNetwork, tensors_of
from harness.networks.process import evaluating, logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel

NOISE = 1e-4
"""Distance up to which float32 explains a difference. Lossless exports of the shipped model stay below 1e-6."""
_EXACT = NOISE / 5
"""Distance of a later layer up to which one that it depends on is merged. EfficientNet-Lite0 stays below 1e-5."""
_IMAGES = 4
_BEYOND = 5
"""Layers after the first different one that are shown."""
_NEARER = 10
"""The least ratio of the distances of a merged layer and of the layer that it became part of."""


@dataclass(frozen=True)
class LayerDifferences:
    """Where an original and its artifact begin to differ: a sentence, and the `first` layer that does, if any.

    `layers` have a name, a distance and an outcome each, in the order of execution. A distance is that from the nearest
    tensor of the artifact, by the spread of the layer's output, and infinite without a tensor of this size.
    """

    sentence: str
    first: str | None
    layers: tuple[tuple[str, float, str], ...]

    @property
    def shown(self) -> list[tuple[str, str, str]]:
        """Return the layers up to some beyond the first that differs, with the distances as text."""
        first = next((at for at, each in enumerate(self.layers) if each[2] == "different"), len(self.layers))
        return [(name, f"{distance:.2g}", outcome) for name, distance, outcome in self.layers[: first + 1 + _BEYOND]]

    def as_json(self) -> dict[str, Any]:
        """Return the sentence, the first layer and all distances in plain types."""
        distances = {name: distance if math.isfinite(distance) else None for name, distance, _ in self.layers}
        return {"sentence": self.sentence, "first": self.first, "distances": distances}


def layer_differences(
    artifact: RoleModel, original: RoleModel, images: LabelledImages, differ: np.ndarray
) -> LayerDifferences:
    """Compare the layers of an original with its artifact on four images, those that `differ` (N,) first.

    Raises `InputError` for an original without layers, and for an artifact that shows no tensors.
    """
    if not original.provides.layers:
        message = "gives predictions only; name the network of PyTorch that the artifact is made from"
        raise InputError(f"{original.path}: {message}", setting="layers")
    model = original.classifier.plain
    pixels = original.classifier.pixels(images, np.argsort(~differ, kind="stable")[:_IMAGES])
    *calls, logits = _outputs(model, pixels)
    tensors, answers = _tensors_of(artifact, pixels), _outputs(artifact.classifier.plain, pixels, layers=False)[-1]
    # Logits whose mean for each image is 0 equal logarithms of probabilities.
    mine, theirs = (each.output - each.output.mean(axis=1, keepdims=True) for each in (logits, answers))
    distances = [*(_distance(call.output, tensors) for call in calls), _distance(mine, [theirs])]
    calls.append(logits)

    def is_merged(number: int) -> bool:
        distance = distances[number]
        followers = [later for later, each in zip(distances, calls, strict=True) if each.takes == number]
        if min(followers, default=distance) < distance / _NEARER:
            return True
        enough = min(_EXACT, distance / _NEARER**2)  # A difference that later layers dilute is no merger.
        equal = [at for at in range(number + 1, len(calls)) if distances[at] <= enough]
        shaken = _outputs(model, pixels, shaking=number) if equal else []
        return any(not np.array_equal(shaken[at].output, calls[at].output) for at in equal)

    layers: list[tuple[str, float, str]] = []
    first, equal, sentence = None, "", ""
    for number, (call, distance) in enumerate(zip(calls, distances, strict=True)):
        if number and call is not logits and np.array_equal(call.output, calls[number - 1].output):
            continue  # As a `Sequential` behind its last layer.
        outcome = "equal" if distance <= NOISE else "different"
        if outcome == "different" and first is None:
            if is_merged(number):
                outcome = "merged with a later one"
            else:
                size = f" by {distance:.2g} of its spread" if math.isfinite(distance) else ""
                after = f"; up to {equal} all are equal" if equal else ", the first one"
                first, sentence = call.name, f"Layers: the difference begins at {call.name}{size}{after}."
        elif first is None:
            equal = call.name
        layers.append((call.name, distance, outcome))
    sentence = sentence or f"Layers: all {len(layers)} are equal, up to float noise."
    return LayerDifferences(sentence, first, tuple(layers))


class _Call(NamedTuple):
    """A call of a layer: its output (N, ...), and the number of the call that its input is the output of."""

    name: str
    output: np.ndarray
    takes: int | None = None


def _outputs(model: nn.Module, pixels: Tensor, *, layers: bool = True, shaking: int | None = None) -> list[_Call]:
    """Return each call of a layer that gives a tensor, in the order of execution, and last the logits.

    Noise of its spread replaces the output of the call with the number `shaking`.
    """
    calls: list[_Call] = []
    given: list[Tensor] = []

    def record(name: str, _layer: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.is_floating_point() or len(output) != len(pixels):
            return None
        values = output.detach().cpu().float().numpy().copy()
        shaken = None
        if len(calls) == shaking:
            noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
            shaken = output.mean() + noise * (output.std() + 1)
        takes = next((number for number, each in enumerate(given) if inputs and each is inputs[0]), None)
        calls.append(_Call(name, values, takes))
        given.append(output if shaken is None else shaken)
        return shaken

    hooks = {name: partial(record, name) for name, _ in model.named_modules() if name and layers}
    with torch.no_grad(), evaluating(model, hooks):
        logits = logits_of(model(pixels))[0]
    return [*calls, _Call("logits", logits.detach().cpu().float().numpy())]


def _tensors_of(artifact: RoleModel, pixels: Tensor) -> list[np.ndarray]:
    """Return the tensors that an artifact computes for pixels, each (N, ...)."""
    model = artifact.classifier.plain
    if isinstance(model, PredictorNetwork) and isinstance(model.predictor, OpenVinoPredictor):
        return model.predictor.tensors(pixels.cpu().numpy())
    parts = dict(model.named_modules())  # The network may be within another model, which prepares its input.
    name = next((name for name, part in parts.items() if isinstance(part, OnnxNetwork)), None)
    if name is not None:
        taken: list[np.ndarray] = []
        with torch.no_grad(), evaluating(model, {name: lambda _, inputs, __: taken.append(inputs[0].cpu().numpy())}):
            model(pixels)
        return tensors_of(parts[name], taken[0])
    if not artifact.provides.layers:
        message = "layers can be compared of a checkpoint, of an ONNX file and of OpenVINO's files"
        raise InputError(f"{artifact.path}: gives predictions only; {message}", setting="layers")
    return [call.output for call in _outputs(model, pixels)]


def _distance(output: np.ndarray, tensors: Sequence[np.ndarray]) -> float:
    """Return the least distance of an output from tensors of its size, with channels first or last, by its spread."""
    spread = float(output.std()) or 1.0
    layouts = [output] if output.ndim != 4 else [output, output.transpose(0, 2, 3, 1)]  # noqa: PLR2004  (N, C, H, W)
    pairs = [(one.ravel(), other.ravel()) for one in layouts for other in tensors if other.size == output.size]
    return min((float(np.sqrt(np.mean((one - other) ** 2))) / spread for one, other in pairs), default=math.inf)
