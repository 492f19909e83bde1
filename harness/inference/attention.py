"""Grad-CAM at any layer with feature maps, in one pass with the predictions.

Selvaraju et al. (2017), "Grad-CAM", section 3: each channel of a layer's feature maps is weighted
by the mean gradient of the predicted class's logit (equation 1). The map is the sum of the weighted
channels, with negative values set to zero (equation 2). Maps are never scaled, so maps of two
images are comparable and a dead map is visible.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import NotApplicableError
from harness.inference.devices import FLOAT32_BATCH, batch_size, in_batches
from harness.inference.engine import ModelError, finite, named, padded, shaped
from harness.inference.graph import folded
from harness.inference.layers import RELU, chosen_layer, feature_maps
from harness.inference.predictions import Predictions
from harness.networks.process import evaluating
from harness.perturb import IDENTITY
from harness.perturb.poses import within_border

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Classifier
    from harness.inference.engine import Perturbed
    from harness.perturb import Perturbation

BATCH = 64
"""Images per pass; fewer are padded, as for predictions, since the shape of a batch may change the
last bits. For large images it is the batch size of predictions.
"""


@dataclass(frozen=True, eq=False)
class Attention:
    """Predictions of a model for N images under one perturbation, with their Grad-CAM maps.

    `predictions` are in float32, from the same pass. `maps` is (N, h, w) float32, at least 0:
    Grad-CAM of the predicted class at the resolution of the layer. `layer` is a name of the model's
    `named_modules()`, with `+relu` if its ReLU has no name.
    """

    predictions: Predictions
    maps: np.ndarray
    layer: str

    def upsampled(self, part: slice = slice(None)) -> np.ndarray:
        """Return some or all maps at the images' size, (N, H, W) float32.

        Interpolation is bilinear. Corners are not aligned.
        """
        maps = torch.from_numpy(self.maps[part])[:, None]
        return np.asarray(
            nn.functional.interpolate(maps, self.size, mode="bilinear", align_corners=False)[:, 0]
        )

    @property
    def size(self) -> tuple[int, int]:
        """Return the (height, width) of the images."""
        height, width = self.predictions.images.pixels.shape[-2:]
        return height, width

    @property
    def dead(self) -> np.ndarray:
        """Return whether each map is zero everywhere, (N,) bool.

        No feature at the layer supports the class.
        """
        return np.asarray(~self.maps.any(axis=(1, 2)))


def attend(
    classifier: Classifier,
    images: LabelledImages,
    perturbation: Perturbation = IDENTITY,
    *,
    layer: str | None = None,
) -> Attention:
    """Predict every image under the perturbation, with Grad-CAM of that class at a layer.

    The layer is one of `harness.inference.layers.spatial_layers`, by default that of
    `default_layer` there. Results are cached like predictions. They are computed where the backend
    runs its models. Raises `InputError` for an unknown layer, `NotApplicableError` for a model
    without a suitable layer, and `ModelError` as `Classifier.predict` does.
    """
    layer, (height, width) = chosen_layer(classifier, images, layer)
    perturbation = within_border(perturbation, images.domain.border)
    count, classes = len(images), len(images.classes)
    fitting = batch_size(images.pixels.shape[1:], classifier.device, screening=False)
    size = BATCH if fitting >= FLOAT32_BATCH else fitting

    task = _Looking(layer, (height, width), classes)

    def compute() -> np.ndarray:
        with named(inputs := classifier.inputs(images, perturbation)):
            return classifier.backend.over_batches(task, classifier.plain, inputs, size=size)

    def attention(images: LabelledImages, perturbation: Perturbation) -> Attention:
        shape = (count, classes + height * width)
        values = classifier.cached(
            ("attention", layer, size), images, shape, compute, perturbation=perturbation
        )
        maps = values[:, classes:].reshape(count, height, width)
        return Attention(Predictions(values[:, :classes], images, perturbation), maps, layer)

    found = classifier.remembered_of(("attention", layer), images, perturbation, attention)
    if found.predictions.images is images:
        return found
    # Another data set object may hold equal pixels.
    return replace(found, predictions=replace(found.predictions, images=images))


@dataclass(frozen=True)
class _Looking:
    """Predicts and computes Grad-CAM at a layer, with maps of a (height, width)."""

    layer: str
    grid: tuple[int, int]
    classes: int

    def __call__(self, model: nn.Module, inputs: Perturbed, size: int, workers: int) -> np.ndarray:
        """Return logits and map of each input, (N, classes + height * width) float32."""
        model = folded(model, keep=self.layer.removesuffix(RELU))

        def look(positions: np.ndarray) -> np.ndarray:
            pixels = padded(inputs(positions), size).contiguous(memory_format=torch.channels_last)
            logits, maps = tap.grad_cam(model, pixels)
            logits = finite(shaped(logits, (size, self.classes), images=len(positions)))
            return torch.cat([logits, maps[: len(positions)].flatten(1)], dim=1).cpu().numpy()

        tap = _AttentionTap(self.layer, self.grid)
        with evaluating(model, tap.hooks):
            return np.concatenate(
                in_batches(look, np.arange(len(inputs)), size=size, workers=workers)
            )


class _AttentionTap(threading.local):
    """A forward hook that cuts the graph at a layer: only the layers after it are differentiated.

    Each thread has its own activation, since batches run in parallel through one model.
    """

    activation: Tensor | None = None

    def __init__(self, layer: str, size: tuple[int, int] | None) -> None:
        self.hooks = {layer.removesuffix(RELU): self}
        self.rectifies, self.size = layer.endswith(RELU), size

    def __call__(self, _module: nn.Module, _inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise ModelError(
                f"the layer returned {type(output).__name__}, expected a tensor of feature maps"
            )
        output = output.detach()
        self.activation = (output.relu() if self.rectifies else output).requires_grad_()
        # The ReLU follows and would stop the gradient at zero. The smallest positive number lets it
        # pass, as behind the ReLU, and is too small to change a logit. Otherwise the next layer may
        # work in place, and a leaf of the graph does not allow that.
        return (
            self.activation + torch.finfo(output.dtype).tiny
            if self.rectifies
            else self.activation.clone()
        )

    def grad_cam(self, model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            logits = model(pixels)
        activation, self.activation = self.activation, None
        if activation is None or not isinstance(logits, Tensor) or not logits.requires_grad:
            raise NotApplicableError(
                "attention: the logits cannot be differentiated with respect to the layer"
            )
        scores = logits.gather(1, logits.argmax(dim=1, keepdim=True))
        (gradients,) = torch.autograd.grad(scores.sum(), activation, allow_unused=True)
        if gradients is None:
            raise NotApplicableError("attention: the logits do not depend on the layer")
        activation = activation.detach()
        if self.size:
            activation, gradients = (
                feature_maps(activation, self.size),
                feature_maps(gradients, self.size),
            )
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        maps = (weights * activation).sum(dim=1).relu().float()
        return logits.detach(), maps
