"""The artifacts of the benchmark, by name.

Exports, quantization, other weights, and mistakes around the weights.

The weights are rounded, pruned, shaken, of another epoch, or with other statistics. A mistake is
other pixels before, or other classes behind. Artifacts of the first table helped to choose the
tolerance. Those of the second table chose nothing: they are of other kinds, and were measured last.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from benchmarks.equivalence.exports import (
    BATCH,
    Maker,
    channels_last,
    dimmed,
    exported,
    int8,
    int8_dynamic,
    noise,
    of_one_class,
    onnx,
    openvino,
    recorded,
    saved,
)  # fmt: skip
from benchmarks.equivalence.networks import Material, Preparation, with_state

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def edited(
    edit: Callable[[nn.Module, Material], None],
    keep: Callable[[nn.Module, Material, Path], str] = saved,
) -> Maker:
    """Return what edits a copy of the network, and keeps it."""

    def made(of: Material, path: Path) -> str:
        network = copy.deepcopy(of.network)
        with torch.no_grad():
            edit(network, of)
        return keep(network, of, path)

    return made


def _layers(network: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [each for each in network.modules() if isinstance(each, kinds)]


# Other weights.


def changed(change: Callable[[Tensor], Tensor], *, least_dimensions: int = 2) -> Maker:
    """Return what changes each tensor of weights with so many dimensions."""

    def edit(network: nn.Module, _: Material) -> None:
        for tensor in (each for each in network.parameters() if each.ndim >= least_dimensions):
            tensor.copy_(change(tensor))

    return edited(edit)


def rounded_to(dtype: torch.dtype) -> Maker:
    """Return what rounds weights to a type of less precision."""
    return changed(lambda tensor: tensor.to(dtype).to(tensor.dtype), least_dimensions=0)


def bits(number: int) -> Maker:
    """Return what rounds weights to so many bits, by one scale for each tensor."""
    levels = 2 ** (number - 1) - 1
    return changed(
        lambda tensor: (tensor / tensor.abs().max() * levels).round() * tensor.abs().max() / levels
    )


def noisy(share: float) -> Maker:
    """Return what adds noise of this share of each tensor's standard deviation."""

    def made(of: Material, path: Path) -> str:
        generator = torch.Generator().manual_seed(0)

        def shaken(tensor: Tensor) -> Tensor:
            return tensor + torch.randn(tensor.shape, generator=generator) * tensor.std() * share

        return changed(shaken)(of, path)

    return made


def pruned(share: float) -> Maker:
    """Return what sets this share of the smallest weights to zero."""

    def edit(network: nn.Module, _: Material) -> None:
        layers = [(each, "weight") for each in _layers(network, nn.Conv2d, nn.Linear)]
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=share)
        for layer, name in layers:
            prune.remove(layer, name)

    return edited(edit)


def reestimated(images: int) -> Maker:
    """Return what estimates batch-norm statistics anew, on so many training images."""

    def edit(network: nn.Module, of: Material) -> None:
        for layer in _layers(network, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        for batch in of.images[:images].split(BATCH):
            network(batch)
        network.eval()

    return edited(edit)


def _in_training(network: nn.Module, _: Material) -> None:
    for layer in _layers(network, nn.BatchNorm2d):
        layer.train()


statistics_in_training = edited(_in_training, recorded)
"""Leaves batch-norm in training mode: it works with the statistics of each batch."""


def dropout_left_on(share: float = 0.25) -> Maker:
    """Return what leaves dropout on, of this share.

    Before the last layer where the network has none.
    """

    def edit(network: nn.Module, _: Material) -> None:
        left = _layers(network, nn.Dropout)
        for layer in left:
            layer.p = share
            layer.train()
        if not left:
            last = _layers(network, nn.Linear)[-1]
            last.register_forward_pre_hook(lambda _, inputs: functional.dropout(inputs[0], share))
        torch.manual_seed(0)

    return edited(edit, recorded)


def later_with_statistics_of_before(of: Material, path: Path) -> str:
    """Take the weights of another epoch with the batch-norm statistics of this one.

    Not if that epoch kept them.
    """
    kept = {
        name: tensor
        for name, tensor in of.network.state_dict().items()
        if name.endswith(_STATISTICS)
    }
    if all(torch.equal(of.later.state_dict()[name], tensor) for name, tensor in kept.items()):
        raise LookupError("the statistics of another epoch are the same")
    return saved(with_state(of.network, {**of.later.state_dict(), **kept}), of, path)


def one_layer_of_later(of: Material, path: Path) -> str:
    """Take one layer's weights of another epoch: the convolution in the middle."""
    layers = [name for name, each in of.network.named_modules() if isinstance(each, nn.Conv2d)]
    name = f"{layers[len(layers) // 2]}.weight"
    return saved(
        with_state(of.network, {**of.network.state_dict(), name: of.later.state_dict()[name]}),
        of,
        path,
    )


# Mistakes around the weights.


class _Around(nn.Module):
    """The network, with a change of the pixels before it and one of the logits behind it."""

    def __init__(
        self,
        network: nn.Module,
        before: Callable[[Tensor], Tensor],
        behind: Callable[[Tensor], Tensor],
    ):
        super().__init__()
        self.network, self.before, self.behind = network, before, behind

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels to logits."""
        return self.behind(self.network(self.before(pixels)))


def after(change: Callable[[Tensor], Tensor]) -> Maker:
    """Return what changes pixels (N, 1, H, W) before the network."""
    return lambda of, path: exported(
        _Around(of.network, change, lambda logits: logits), of.images, path
    )


def reordered(*first: int) -> Maker:
    """Return what puts these of the ten classes first; without any, the reverse order."""
    order = [*first, *range(len(first), 10)] if first else list(range(10))[::-1]
    return lambda of, path: exported(
        _Around(of.network, lambda pixels: pixels, lambda logits: logits[:, order]), of.images, path
    )


def prepared(**settings: object) -> Maker:
    """Return what prepares images otherwise, by these attributes of `Preparation`.

    Not for a network without one.
    """

    def edit(network: nn.Module, _: Material) -> None:
        steps = _layers(network, Preparation)
        if not steps:
            raise LookupError("the network takes unchanged images")
        for step in steps:
            for name, value in settings.items():
                setattr(step, name, value)

    return edited(edit, lambda network, of, path: exported(network, of.images, path))


def shifted(pixels: Tensor) -> Tensor:
    """Return images shifted right by a pixel."""
    return functional.pad(pixels, (1, 0, 0, 0))[..., :-1]


def _to(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(pixels, size=size, mode="bilinear", align_corners=False)


def cropped(pixels: Tensor) -> Tensor:
    """Return images without their outermost pixel, enlarged to their size."""
    return _to(pixels[..., 1:-1, 1:-1], tuple(pixels.shape[-2:]))


def resized(pixels: Tensor) -> Tensor:
    """Return images enlarged to 32 px and reduced again without antialiasing."""
    return _to(_to(pixels, (32, 32)), tuple(pixels.shape[-2:]))


def antialiased(pixels: Tensor) -> Tensor:
    """Return images blurred as an antialiasing filter does, by a quarter to each neighbor."""
    kernel = torch.tensor([0.25, 0.5, 0.25])
    return functional.conv2d(pixels, (kernel[:, None] * kernel).view(1, 1, 3, 3), padding=1)


def standardized(pixels: Tensor) -> Tensor:
    """Return pixels normalized once more than the network does."""
    return (pixels - 0.5) / 0.5


SHOWN: Mapping[str, Maker] = {
    "onnx": onnx,
    "channels-last": channels_last,
    "float16": rounded_to(torch.float16),
    "bfloat16": rounded_to(torch.bfloat16),
    "int8-dynamic": int8_dynamic,
    "int8-per-channel": int8(),
    "int8-per-tensor": int8(per_channel=False),
    "int8-on-noise": int8(noise),
    "int8-on-dimmed": int8(dimmed),
    **{f"bits-{number}": bits(number) for number in (8, 7, 6, 5, 4)},
    **{f"noise-{percent}": noisy(percent / 100) for percent in (2, 5, 10)},
    **{f"batch-norm-{images}": reestimated(images) for images in (1_000, 500, 250)},
}
"""Artifacts by name, of the kinds that the tolerance was chosen with."""
HELD_OUT: Mapping[str, Maker] = {
    "openvino": openvino,
    "int8-entropy": int8(entropy=True),
    "int8-on-one-class": int8(of_one_class),
    **{f"pruned-{percent}": pruned(percent / 100) for percent in (5, 10, 20, 40)},
    "batch-norm-in-training": statistics_in_training,
    "statistics-of-another-epoch": later_with_statistics_of_before,
    "dropout-left-on": dropout_left_on(),
    "layer-of-another-epoch": one_layer_of_later,
    "another-epoch": lambda of, path: saved(of.later, of, path),
    "averaged-weights": lambda of, path: saved(of.averaged, of, path),
    "two-logits-swapped": reordered(1, 0),
    "classes-reversed": reordered(),
    "channels-swapped": prepared(swapped=True),
    "not-normalized": prepared(normalized=False),
    "normalized-twice": after(standardized),
    "enlarged-to-nearest": prepared(mode="nearest"),
    "enlarged-bicubic": prepared(mode="bicubic"),
    "resized-and-back": after(resized),
    "antialiased": after(antialiased),
    "cropped-by-one-pixel": after(cropped),
    "shifted-one-pixel": after(shifted),
    "scaled-by-256": after(lambda pixels: pixels * (255 / 256)),
}
"""Artifacts by name, of other kinds."""
LOSSLESS: Mapping[str, Maker] = {"onnx": onnx, "channels-last": channels_last, "openvino": openvino}
"""Conversions that lose nothing but float noise."""
