"""Grad-CAM: where in an image a model looks, at any layer of any convolutional network, in one pass with its answers.

Selvaraju et al. (2017), "Grad-CAM", section 3: the channels of a layer's feature maps, each weighted by the mean
gradient of the predicted class's logit (equation 1), are summed, and what speaks against the class is cut off
(equation 2). A map is never scaled, so that the maps of two images can be compared and a dead one is seen.

Feature maps are those after their ReLU, as in the paper's networks: before it, a channel that is negative on the
background and speaks against the class would count for it, though the ReLU lets nothing of it pass. Where the ReLU is
no layer with a name of its own, `NAME+relu` stands for what it makes of the layer before.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import InputError, NotApplicableError
from harness.inference.engine import ModelError, checked, in_batches, named, padded
from harness.inference.folding import folded
from harness.inference.predictions import Predictions
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch.utils.hooks import RemovableHandle

    from harness.data import LabelledImages
    from harness.inference import Classifier
    from harness.perturb import Perturbation

BATCH = 64
"""Images per pass; fewer are padded, as for predictions, since the shape of a batch may change the last bits."""
RELU = "+relu"
"""Ends the name of a layer whose output is taken as the ReLU after it passes it on."""
_PROBED = 8
"""Images that are looked at to find out about a model's layers."""
_LISTED = 40
"""Layers that an error names."""


@dataclass(frozen=True, eq=False)
class Attention:
    """What a model says of N images under one perturbation, and where it looks.

    `predictions` are float32's, of the same pass. `maps` is (N, h, w) float32, at least 0: Grad-CAM of the predicted
    class at the resolution of the layer, which is named as in the model's `named_modules()`, with `+relu` where its
    ReLU has no name.
    """

    predictions: Predictions
    maps: np.ndarray
    layer: str

    def upsampled(self) -> np.ndarray:
        """Return the maps at the images' size, (N, H, W) float32, by bilinear interpolation (corners not aligned)."""
        size = tuple(self.predictions.images.pixels.shape[-2:])
        maps = torch.from_numpy(self.maps)[:, None]
        return np.asarray(nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0].numpy())

    @property
    def dead(self) -> np.ndarray:
        """Return whether each map is zero everywhere: nothing at the layer speaks for the class, (N,) bool."""
        return np.asarray(~self.maps.any(axis=(1, 2)))


def attend(
    classifier: Classifier,
    images: LabelledImages,
    perturbation: Perturbation = IDENTITY,
    *,
    layer: str | None = None,
) -> Attention:
    """Predict every image under the perturbation and compute Grad-CAM of the predicted class at a layer.

    The layer is one of `spatial_layers`, by default that of `default_layer`. Remembered, and kept in the cache, as
    predictions are. Raises `InputError` for a layer that there is not, `NotApplicableError` when the model has none
    that could be looked at, and `ModelError` as `Classifier.predict` does.
    """
    layer, (height, width) = chosen_layer(classifier, images, layer)
    count, classes, workers = len(images), len(images.classes), classifier.workers
    what = f"images {tuple(images.pixels.shape)} under {perturbation}"

    def compute() -> np.ndarray:
        model = folded(classifier.plain, keep=layer.removesuffix(RELU))

        def look(positions: np.ndarray) -> np.ndarray:
            pixels = padded(perturbation(classifier.pixels(images, positions)), BATCH)
            logits, maps = tap.grad_cam(model, pixels.contiguous(memory_format=torch.channels_last))
            logits = checked(logits, (BATCH, classes), images=len(positions))
            return torch.cat([logits, maps[: len(positions)].flatten(1)], dim=1).cpu().numpy()

        with named(what), _tapped(model, layer) as tap:
            return np.concatenate(in_batches(look, np.arange(count), size=BATCH, workers=workers))

    def attention() -> Attention:
        shape = (count, classes + height * width)
        values = classifier.kept(("attention", layer, BATCH), images, shape, compute, perturbation=perturbation)
        maps = values[:, classes:].reshape(count, height, width)
        return Attention(Predictions(values[:, :classes], images, perturbation), maps, layer)

    key = ("attention", layer, images.sha256, tuple(images.pixels.shape), repr(perturbation))
    remembered = classifier.remembered(key, attention)
    if remembered.predictions.images is images:
        return remembered
    # Equal pixels may go by other names.
    return Attention(Predictions(remembered.predictions.answers, images, perturbation), remembered.maps, layer)


def grad_cam(model: nn.Module, pixels: Tensor, *, layer: str) -> tuple[Tensor, Tensor]:
    """Return a model's logits (N, classes) for one batch of pixels, and Grad-CAM of each predicted class (N, h, w).

    The model is run in evaluation mode and left as it was found: mode, hooks, parameters, gradients.
    """
    with _tapped(model, layer) as tap:
        return tap.grad_cam(model, pixels)


class _Tap(threading.local):
    """A forward hook that cuts the graph at a layer: what comes after it is differentiated, what comes before is not.

    Each thread has its own activation, since batches run side by side through one model.
    """

    activation: Tensor | None = None

    def __init__(self, *, rectifies: bool) -> None:
        self.rectifies = rectifies

    def __call__(self, _module: nn.Module, _inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise ModelError(f"the layer returned {type(output).__name__}, expected a tensor of feature maps")
        if self.rectifies:
            self.activation = output.detach().relu().requires_grad_()
            # The ReLU is still to come, and stops the gradient at zero; the least number above it passes, as it would
            # behind the ReLU, and is too small to change a logit.
            return self.activation + torch.finfo(output.dtype).tiny
        self.activation = output.detach().requires_grad_()
        # The next layer may work in place, which a leaf of the graph does not allow.
        return self.activation.clone()

    def grad_cam(self, model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            logits = model(pixels)
        activation = self.activation
        if activation is None or not isinstance(logits, Tensor) or not logits.requires_grad:
            raise NotApplicableError("attention: the logits cannot be differentiated with respect to the layer")
        scores = logits.gather(1, logits.argmax(dim=1, keepdim=True))
        (gradients,) = torch.autograd.grad(scores.sum(), activation, allow_unused=True)
        if gradients is None:
            raise NotApplicableError("attention: the logits do not depend on the layer")
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        maps = (weights * activation.detach()).sum(dim=1).relu().float()
        self.activation = None
        return logits.detach(), maps


@contextmanager
def _tapped(model: nn.Module, layer: str) -> Iterator[_Tap]:
    """Keep a tap hooked to the layer, and the model in evaluation mode, as long as the context lasts."""
    tap = _Tap(rectifies=layer.endswith(RELU))
    handle = model.get_submodule(layer.removesuffix(RELU)).register_forward_hook(tap)
    try:
        with _evaluating(model):
            yield tap
    finally:
        handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True)
class _Called:
    """A layer that a forward pass has called, and the (height, width) of the feature maps that it gave."""

    name: str
    layer: nn.Module
    size: tuple[int, int]


def spatial_layers(model: nn.Module, pixels: Tensor) -> Mapping[str, tuple[int, int]]:
    """Return the layers whose output is feature maps of more than one pixel, with their (height, width).

    In the order of execution on these pixels, (N, C, H, W); names are those of `named_modules()`.
    """
    return {called.name: called.size for called in _spatial_calls(model, pixels)}


def default_layer(model: nn.Module, pixels: Tensor) -> str:
    """Return the end of the last convolution block: the last layer at the resolution of the last convolution.

    Behind its batch norm, its ReLU and what is added to it, and before the pooling, which would leave too few places to
    tell the object from the middle of the image. With `+relu` if a ReLU without a name follows. Convolutions that give
    a single pixel do not count. Raises `NotApplicableError` when there are no others.
    """
    calls = _spatial_calls(model, pixels)
    numbers = [number for number, called in enumerate(calls) if isinstance(called.layer, nn.Conv2d)]
    if not numbers:
        raise NotApplicableError(
            "attention: the model has no convolution layer (torch.nn.Conv2d) with feature maps of more than one pixel"
        )
    size = calls[numbers[-1]].size
    (*_, last) = (called.name for called in calls[numbers[-1] :] if called.size == size)
    return last + RELU if relu_follows(model, pixels, layer=last) else last


def relu_follows(model: nn.Module, pixels: Tensor, *, layer: str) -> bool:
    """Return whether a ReLU alone follows a layer: its negative values, and there are some, make no difference.

    All of its values must make one, or the logits do not depend on the layer.
    """
    negative = False

    def clip(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        nonlocal negative
        negative = bool((output < 0).any())
        return output.relu()

    def blank(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    def logits(hook: Callable[[nn.Module, object, Tensor], Tensor]) -> Tensor:
        handle = model.get_submodule(layer).register_forward_hook(hook)
        try:
            result: Tensor = model(pixels)
        finally:
            handle.remove()
        return result

    with torch.no_grad(), _evaluating(model):
        as_they_are: Tensor = model(pixels)
        clipped, blanked = logits(clip), logits(blank)
    return negative and torch.equal(clipped, as_they_are) and not torch.equal(blanked, as_they_are)


def _spatial_calls(model: nn.Module, pixels: Tensor) -> list[_Called]:
    calls: list[_Called] = []

    def hooked(name: str, layer: nn.Module) -> RemovableHandle:
        def record(_layer: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1:  # noqa: PLR2004
                calls.append(_Called(name, layer, (output.shape[2], output.shape[3])))

        return layer.register_forward_hook(record)

    handles = [hooked(name, layer) for name, layer in model.named_modules() if name]
    try:
        with torch.no_grad(), _evaluating(model):
            model(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def chosen_layer(classifier: Classifier, images: LabelledImages, wanted: str | None) -> tuple[str, tuple[int, int]]:
    """Return the layer to look at, and the (height, width) of its maps; None stands for the default.

    Raises `InputError` when the layer wanted is not one of `spatial_layers`, which the message lists, or one of them
    with `+relu` that no ReLU follows.
    """
    model, pixels = classifier.plain, classifier.pixels(images, np.arange(min(_PROBED, len(images))))

    def found() -> tuple[str, tuple[int, int]]:
        layers = spatial_layers(model, pixels)
        layer = default_layer(model, pixels) if wanted is None else _full_name(wanted, layers)
        name = layer.removesuffix(RELU)
        if name not in layers:
            listed = [f"{name} ({height}x{width})" for name, (height, width) in layers.items()]
            more = [f"and {len(listed) - _LISTED} more"] if len(listed) > _LISTED else []
            raise InputError(
                f"layer {name!r}: the model has none of this name with feature maps of more than one pixel; "
                f"it has {', '.join(listed[:_LISTED] + more) or 'none at all'}"
            )
        if wanted is not None and wanted.endswith(RELU) and not relu_follows(model, pixels, layer=name):
            raise InputError(f"layer {wanted!r}: no ReLU follows directly; name {name!r} to look at what comes before")
        return layer, layers[name]

    return classifier.remembered(("layer", wanted, tuple(pixels.shape[1:])), found)


def _full_name(wanted: str, layers: Mapping[str, tuple[int, int]]) -> str:
    """Return the name of the one layer that ends so, as a user's network may stand inside another; else what is wanted.

    With `+relu`, if that was wanted.
    """
    name = wanted.removesuffix(RELU)
    inner = [layer for layer in layers if layer.endswith(f".{name}")]
    return inner[0] + wanted.removeprefix(name) if name not in layers and len(inner) == 1 else wanted
