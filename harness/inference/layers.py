"""The layers of a model with feature maps for Grad-CAM, and the choice of one.

Feature maps are taken after their ReLU, as in the paper on Grad-CAM. Before it, a channel with
negative values on the background and a negative weight would count for the class. The ReLU passes
none of it. If the ReLU is no layer with a name, `NAME+relu` stands for the output of layer NAME
after its ReLU.

The tokens of a vision transformer, (N, h * w, D), are feature maps too: D channels on the grid of
patches. Up to eight others, such as the class token, may come before them. Maps with channels last,
(N, h, w, D), as in Swin, also count; the proportions of the image identify them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.errors import NotApplicableError, UnusableModelError, some_of
from harness.networks.process import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data import LabelledImages
    from harness.inference import Classifier

RELU = "+relu"
"""Suffix of a layer's name that stands for its output after the ReLU that follows."""
_PROBED = 8
"""Number of images for a forward pass that lists a model's layers."""
_LISTED = 40
"""Most layers in an error message."""
_OTHER_TOKENS = 8
"""Most tokens before those of the patches: of the class, of a teacher, registers."""


def spatial_layers(model: nn.Module, pixels: Tensor) -> Mapping[str, tuple[int, int]]:
    """Return the layers with feature maps of more than one pixel, with their (height, width).

    They are in the order of execution on these pixels, (N, C, H, W), under their names of
    `named_modules()`.
    """
    return {called.name: called.size for called in _spatial_calls(model, pixels)}


def default_layer(model: nn.Module, pixels: Tensor) -> str:
    """Return the end of the last convolution block.

    The last layer at the resolution of the last convolution.

    It comes after batch norm, ReLU and residual addition, and before the pooling. Pooled maps have
    too few positions to separate the object from the image's center. It has the suffix `+relu` if a
    ReLU without a name follows. A convolution with a single pixel does not count. For a
    transformer, it is the last layer with an effect of its patches on the logits. If the class
    token is read, layers after the last attention have none. Raises `NotApplicableError` without
    such a layer.
    """
    calls = _spatial_calls(model, pixels)
    numbers = [number for number, called in enumerate(calls) if isinstance(called.layer, nn.Conv2d)]
    if not numbers:
        raise NotApplicableError(
            "attention: the model has no convolution layer (torch.nn.Conv2d) with feature maps of "
            "more than one pixel"
        )
    size, behind = calls[numbers[-1]].size, calls[numbers[-1] :]
    # Swin merges patches without a convolution.
    tokens = {
        each.name: each.size
        for each in behind
        if each.kind == "tokens" or (each.kind and each.size != size)
    }
    if tokens:
        return _last_that_decides(model, pixels[:2], tokens)
    (*_, last) = (each.name for each in behind if each.size == size)
    return last + RELU if relu_follows(model, pixels, layer=last) else last


def feature_maps(output: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a layer's output as feature maps (N, D, h, w) of this size.

    Channels may be second or last.

    Among tokens, (N, T, D), those of the patches are the last.
    """
    if output.ndim == 4:  # noqa: PLR2004
        return output if tuple(output.shape[2:]) == size else output.permute(0, 3, 1, 2)
    number, _, channels = output.shape
    return output[:, -size[0] * size[1] :].transpose(1, 2).reshape(number, channels, *size)


def chosen_layer(
    classifier: Classifier, images: LabelledImages, wanted: str | None
) -> tuple[str, tuple[int, int]]:
    """Return the layer for Grad-CAM and the (height, width) of its maps.

    `wanted=None` stands for the default. Raises `InputError` if the wanted layer is not one of
    `spatial_layers`, which the message lists. Also for a suffix `+relu` if no ReLU follows the
    layer.
    """
    key = ("layer", wanted, tuple(images.pixels.shape[1:]))
    return classifier.remembered(key, lambda: _found(classifier, images, wanted))


def _found(
    classifier: Classifier, images: LabelledImages, wanted: str | None
) -> tuple[str, tuple[int, int]]:
    model, pixels = (
        classifier.plain,
        classifier.inputs(images)(np.arange(min(_PROBED, len(images)))),
    )
    layers = spatial_layers(model, pixels)
    layer = default_layer(model, pixels) if wanted is None else wanted
    name = layer.removesuffix(RELU)
    inner = [each for each in layers if each.endswith(f".{name}")]
    if name not in layers and len(inner) == 1:  # A user's network may be inside another one.
        layer, name = inner[0] + layer.removeprefix(name), inner[0]
    if name not in layers:
        listed = [f"{name} ({height}x{width})" for name, (height, width) in layers.items()]
        raise UnusableModelError(
            f"layer {name!r}: the model has no such layer with feature maps of more than one "
            f"pixel; it has {some_of(listed, shown=_LISTED) or 'none at all'}"
        )
    if wanted is not None and wanted.endswith(RELU) and not relu_follows(model, pixels, layer=name):
        raise UnusableModelError(
            f"layer {wanted!r}: no ReLU follows directly; name {name!r} for the layer's own output"
        )
    return layer, layers[name]


def relu_follows(model: nn.Module, pixels: Tensor, *, layer: str) -> bool:
    """Return whether only a ReLU follows a layer.

    It has negative values, and these do not affect the logits.

    All of its values together must affect them, or the logits do not depend on the layer.
    """
    negative: list[bool] = []

    def clip(output: Tensor) -> Tensor:
        negative.append(bool((output < 0).any()))
        return output.relu()

    def logits(change: Callable[[Tensor], Tensor]) -> Tensor:
        with (
            torch.no_grad(),
            evaluating(model, {layer: lambda _layer, _inputs, output: change(output)}),
        ):
            result: Tensor = model(pixels)
        return result

    plain, clipped, blanked = logits(lambda output: output), logits(clip), logits(torch.zeros_like)
    return negative[-1] and torch.equal(clipped, plain) and not torch.equal(blanked, plain)


@dataclass(frozen=True)
class _Called:
    """A layer called in a forward pass, the (height, width) of its feature maps, and their kind.

    It is "" for maps with channels second, "last" for channels last, or "tokens".
    """

    name: str
    layer: nn.Module
    size: tuple[int, int]
    channels: int
    kind: str = ""


def _spatial_calls(model: nn.Module, pixels: Tensor) -> list[_Called]:
    calls: list[_Called] = []
    height, width = pixels.shape[2:]

    def fits(size: tuple[int, ...]) -> bool:
        """Return whether a grid has the proportions of the image."""
        return size[0] * size[1] > 1 and round(height / size[0]) == round(width / size[1])

    def record(name: str, layer: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            return
        shape: Any = tuple(output.shape)
        if output.ndim == 4 and output.shape[1:].numel():  # noqa: PLR2004
            last = fits(shape[1:3]) and not fits(shape[2:])
            size, channels = (shape[1:3], shape[3]) if last else (shape[2:4], shape[1])
            if size != (1, 1):
                calls.append(_Called(name, layer, size, channels, "last" if last else ""))
        elif output.ndim == 3:  # noqa: PLR2004
            # The latest convolution may have made the patches of a transformer.
            embedded = next(
                (called for called in reversed(calls) if isinstance(called.layer, nn.Conv2d)), None
            )
            others = shape[1] - embedded.size[0] * embedded.size[1] if embedded else -1
            if embedded and 0 <= others <= _OTHER_TOKENS and shape[2] == embedded.channels:
                calls.append(_Called(name, layer, embedded.size, embedded.channels, "tokens"))

    hooks = {name: partial(record, name) for name, _ in model.named_modules() if name}
    with torch.no_grad(), evaluating(model, hooks):
        model(pixels)
    return calls


def _last_that_decides(
    model: nn.Module, pixels: Tensor, sizes: Mapping[str, tuple[int, int]]
) -> str:
    """Return the last of these layers with an effect of its patches on the logits.

    Raises without one.
    """
    found: dict[str, Tensor] = {}

    def hold(name: str, _layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        # The first layer begins the graph that contains all later ones.
        found[name] = output if output.requires_grad else output.detach().requires_grad_()
        return found[name].clone()

    with torch.enable_grad(), evaluating(model, {name: partial(hold, name) for name in sizes}):
        scores = model(pixels).max(dim=1).values.sum()
    gradients = (
        torch.autograd.grad(scores, list(found.values()), allow_unused=True)
        if scores.requires_grad
        else ()
    )
    for name, gradient in reversed(list(zip(found, gradients, strict=False))):
        if gradient is not None and feature_maps(gradient, sizes[name]).any():
            return name
    raise NotApplicableError("attention: the logits depend on no layer's patches")
