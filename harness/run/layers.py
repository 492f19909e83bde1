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
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import InputError
from harness.networks.process import evaluating, foreign_network, logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel

NOISE = 1e-4
"""Distance up to which float32 explains a difference. Lossless exports of the shipped model stay below 1e-6."""
_EXACT = NOISE / 5
"""Distance of a later layer up to which one that it depends on is merged. EfficientNet-Lite0 stays below 1e-5."""
_IMAGES, _NEARER = 4, 10
"""Images compared, and the least ratio of the distances of a merged layer and of the one that it became part of."""


@dataclass(frozen=True)
class LayerDifferences:
    """Where an original and its artifact begin to differ: a sentence, and the `first` layer that does, if any.

    `layers` have a name, a distance and an outcome each, in the order of execution. A distance is that from the nearest
    tensor of the artifact, by the spread of the layer's output. Without a tensor of this size, it is infinite.
    """

    sentence: str
    first: str | None
    layers: tuple[tuple[str, float, str], ...]


def layer_differences(
    artifact: RoleModel, original: RoleModel, images: LabelledImages, differ: np.ndarray
) -> LayerDifferences:
    """Compare the layers of an original with its artifact on four images, those that `differ` (N,) first.

    Raises `InputError` for an original without layers, and for an artifact that shows no tensors.
    """
    if not original.provides.layers:
        name_it = "name the network of PyTorch that the artifact is made from"
        raise InputError(f"{original.path}: gives predictions only; {name_it}", setting="layers")
    some = np.argsort(~differ, kind="stable")[:_IMAGES]
    model, pixels = original.classifier.plain, original.classifier.inputs(images)(some)
    names, outputs, takes = _trace(model, pixels)
    tensors = _tensors_of(artifact, pixels)
    with torch.no_grad(), foreign_network():
        answers = logits_of(artifact.classifier.plain(pixels))[0].cpu().float().numpy()
    # Logits whose mean for each image is 0 equal logarithms of probabilities.
    mine, theirs = (each - each.mean(axis=1, keepdims=True) for each in (outputs[-1], answers))
    distances = [*(_distance(output, tensors) for output in outputs[:-1]), _distance(mine, [theirs])]

    def is_merged(at: int) -> bool:
        followers = [later for later, taken in zip(distances, takes, strict=True) if taken == at]
        if min(followers, default=distances[at]) < distances[at] / _NEARER:
            return True
        enough = min(_EXACT, distances[at] / _NEARER**2)  # A difference that later layers dilute is no merger.
        equal = [later for later in range(at + 1, len(distances)) if distances[later] <= enough]
        shaken = _trace(model, pixels, shaking=at)[1] if equal else []
        return any(not np.array_equal(shaken[later], outputs[later]) for later in equal)

    layers: list[tuple[str, float, str]] = []
    first, equal, sentence = None, "", ""
    for at, (name, distance) in enumerate(zip(names, distances, strict=True)):
        if 0 < at < len(names) - 1 and np.array_equal(outputs[at], outputs[at - 1]):
            continue  # As a `Sequential` behind its last layer.
        outcome = "equal" if distance <= NOISE else "different"
        if outcome == "different" and first is None:
            if is_merged(at):
                outcome = "merged with a later one"
            else:
                size = f" by {distance:.2g} of its spread" if math.isfinite(distance) else ""
                after = f"; up to {equal} all are equal" if equal else ", the first one"
                first, sentence = name, f"Layers: the difference begins at {name}{size}{after}."
        elif first is None:
            equal = name
        layers.append((name, distance, outcome))
    sentence = sentence or f"Layers: all {len(layers)} are equal, up to float noise."
    return LayerDifferences(sentence, first, tuple(layers))


def _trace(
    model: nn.Module, pixels: Tensor, *, shaking: int | None = None
) -> tuple[list[str], list[np.ndarray], list[int | None]]:
    """Return the name and output (N, ...) of each call of a layer in the order of execution, and last the logits.

    The third list has the number of the call that the input of each is the output of. Noise of its spread replaces the
    output of the call with the number `shaking`.
    """
    names, outputs, takes, given = list[str](), list[np.ndarray](), list[int | None](), list[Tensor]()

    def record(name: str, _layer: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or not output.is_floating_point() or len(output) != len(pixels):
            return None
        names.append(name)
        outputs.append(output.detach().cpu().float().numpy().copy())
        takes.append(next((number for number, each in enumerate(given) if inputs and each is inputs[0]), None))
        if len(given) == shaking:
            noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
            output = output.mean() + noise * (output.std() + 1)
        given.append(output)
        return output

    hooks = {name: partial(record, name) for name, _ in model.named_modules() if name}
    with torch.no_grad(), evaluating(model, hooks):
        logits = logits_of(model(pixels))[0]
    return [*names, "logits"], [*outputs, logits.detach().cpu().float().numpy()], [*takes, None]


def _tensors_of(artifact: RoleModel, pixels: Tensor) -> list[np.ndarray]:
    """Return the tensors that an artifact computes for pixels, each (N, ...)."""
    model = artifact.classifier.plain
    if not artifact.provides.layers:
        message = "layers can be compared of checkpoints"
        raise InputError(f"{artifact.path}: gives predictions only; {message}", setting="layers")
    return _trace(model, pixels)[1]


def _distance(output: np.ndarray, tensors: Sequence[np.ndarray]) -> float:
    """Return the least distance of an output from tensors of its size, with channels first or last, by its spread."""
    spread = float(output.std()) or 1.0
    layouts = [output] if output.ndim != 4 else [output, output.transpose(0, 2, 3, 1)]  # noqa: PLR2004  (N, C, H, W)
    pairs = [(one.ravel(), other.ravel()) for one in layouts for other in tensors if other.size == output.size]
    return min((float(np.sqrt(np.mean((one - other) ** 2))) / spread for one, other in pairs), default=math.inf)
