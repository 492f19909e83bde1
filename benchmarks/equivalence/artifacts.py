"""Makers of artifacts: what exports, quantization, pruning and mistakes make of a network.

Each takes the network, images to calibrate with, (N, C, H, W) in [0, 1], and a path without a suffix. It returns the
path of the file that it wrote: `.onnx`, or a state dict, `.pth`, where only weights differ.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Maker = "Callable[[nn.Module, Tensor, Path], Path]"
_BATCH = 250


def _onnx(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Export to ONNX with the weights inside and a batch of any size."""
    target = path.with_suffix(".onnx")
    batches = {"pixels": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # The newer exporter needs one more package.
        torch.onnx.export(
            network.eval(), (images[:2],), str(target), input_names=["pixels"], output_names=["logits"],
            dynamic_axes=batches, dynamo=False,
        )  # fmt: skip
    return target


def _weights(network: nn.Module, path: Path) -> Path:
    target = path.with_suffix(".pth")
    torch.save({name: tensor.clone() for name, tensor in network.state_dict().items()}, target)
    return target


def onnx(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Export in float32."""
    return _onnx(network, images, path)


def float16(network: nn.Module, images: Tensor, path: Path) -> Path:  # noqa: ARG001  As all makers.
    """Round the weights to float16."""
    return _rounded(network, path, torch.float16)


def bfloat16(network: nn.Module, images: Tensor, path: Path) -> Path:  # noqa: ARG001  As all makers.
    """Round the weights to bfloat16."""
    return _rounded(network, path, torch.bfloat16)


def _rounded(network: nn.Module, path: Path, dtype: torch.dtype) -> Path:
    made = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.copy_(tensor.to(dtype).to(tensor.dtype))
    return _weights(made, path)


class _Batches:
    """Calibration images in the form that ONNX Runtime reads."""

    def __init__(self, images: Tensor) -> None:
        self.batches: Iterator[Tensor] = iter(images.split(_BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {"pixels": batch.numpy().astype(np.float32)}


def int8_dynamic(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Quantize weights to int8, and activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_suffix(".onnx")
    source = _onnx(network, images, path.with_name(f"{path.name}-float32"))
    quantize_dynamic(str(source), str(target), weight_type=QuantType.QUInt8)
    return target


def _int8(network: nn.Module, images: Tensor, path: Path, *, per_channel: bool, entropy: bool = False) -> Path:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static

    target = path.with_suffix(".onnx")
    source = _onnx(network, images, path.with_name(f"{path.name}-float32"))
    method = CalibrationMethod.Entropy if entropy else CalibrationMethod.MinMax
    quantize_static(
        str(source), str(target), _Batches(images), quant_format=QuantFormat.QDQ, per_channel=per_channel,
        calibrate_method=method,
    )  # fmt: skip
    return target


def int8_per_channel(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Quantize to int8, each output channel by its own scale."""
    return _int8(network, images, path, per_channel=True)


def int8_per_tensor(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Quantize to int8, each tensor by one scale."""
    return _int8(network, images, path, per_channel=False)


def int8_on_noise(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Quantize to int8, calibrated on noise."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    return _int8(network, noise, path, per_channel=True)


def int8_on_dimmed(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Quantize to int8, calibrated on images at a third of their light."""
    return _int8(network, images / 3, path, per_channel=True)


def bits(number: int) -> Maker:
    """Return what rounds weights to so many bits, by one scale for each tensor."""

    def made(network: nn.Module, images: Tensor, path: Path) -> Path:  # noqa: ARG001  As all makers.
        rounded, levels = copy.deepcopy(network), 2 ** (number - 1) - 1
        with torch.no_grad():
            for tensor in (each for each in rounded.parameters() if each.ndim > 1):
                step = tensor.abs().max() / levels
                tensor.copy_((tensor / step).round() * step)
        return _weights(rounded, path)

    return made


def noisy(share: float) -> Maker:
    """Return what adds noise of this share of each tensor's standard deviation."""

    def made(network: nn.Module, images: Tensor, path: Path) -> Path:  # noqa: ARG001  As all makers.
        changed, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in (each for each in changed.parameters() if each.ndim > 1):
                tensor.add_(torch.randn(tensor.shape, generator=generator) * tensor.std() * share)
        return _weights(changed, path)

    return made


def pruned(share: float) -> Maker:
    """Return what sets this share of the smallest weights to zero."""

    def made(network: nn.Module, images: Tensor, path: Path) -> Path:  # noqa: ARG001  As all makers.
        changed = copy.deepcopy(network)
        layers = [(each, "weight") for each in changed.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=share)
        for layer, name in layers:
            prune.remove(layer, name)
        return _weights(changed, path)

    return made


def reestimated(batches: int) -> Maker:
    """Return what estimates batch-norm statistics anew, on so many batches of 250 images."""

    def made(network: nn.Module, images: Tensor, path: Path) -> Path:
        changed = copy.deepcopy(network)
        for layer in (each for each in changed.modules() if isinstance(each, nn.BatchNorm2d)):
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        with torch.no_grad():
            for batch in images.split(_BATCH)[:batches]:
                changed(batch)
        return _weights(changed.eval(), path)

    return made


class _Reordered(nn.Module):
    def __init__(self, network: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels to logits in another order of the classes."""
        logits: Tensor = self.network(pixels)[:, self.order]
        return logits


def reordered(*first: int) -> Maker:
    """Return what puts these classes first; without any, the reverse order."""

    def made(network: nn.Module, images: Tensor, path: Path) -> Path:
        with torch.no_grad():
            classes = network(images[:1]).shape[1]
        order = [*first, *range(len(first), classes)] if first else list(range(classes))[::-1]
        return _onnx(_Reordered(network, order), images, path)

    return made


def scaled_by_256(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Divide pixels by 256 where 255 is right."""
    return _onnx(nn.Sequential(_Scaled(255 / 256), network), images, path)


def shifted(network: nn.Module, images: Tensor, path: Path) -> Path:
    """Shift images by one pixel before the network."""
    return _onnx(nn.Sequential(_Shifted(), network), images, path)


class _Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the pixels, scaled."""
        return pixels * self.factor


class _Shifted(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        """Return the images, shifted right by a pixel."""
        return nn.functional.pad(pixels, (1, 0, 0, 0))[..., :-1]


MAKERS: Mapping[str, Maker] = {
    "onnx": onnx,
    "float16": float16,
    "bfloat16": bfloat16,
    "int8-dynamic": int8_dynamic,
    "int8-per-channel": int8_per_channel,
    "int8-per-tensor": int8_per_tensor,
    "int8-on-noise": int8_on_noise,
    "int8-on-dimmed": int8_on_dimmed,
    **{f"bits-{number}": bits(number) for number in (8, 7, 6, 5, 4)},
    **{f"noise-{share:.0%}".rstrip("%"): noisy(share) for share in (0.02, 0.05, 0.1)},
    **{f"pruned-{share:.0%}".rstrip("%"): pruned(share) for share in (0.05, 0.1, 0.2)},
    **{f"batch-norm-{batches}": reestimated(batches) for batches in (160, 40, 30)},
    "two-logits-swapped": reordered(1, 0),
    "classes-reversed": reordered(),
    "scaled-by-256": scaled_by_256,
    "shifted-one-pixel": shifted,
}
"""Makers by the name of their artifact, the lossless conversion first."""
