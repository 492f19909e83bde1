"""Exports of a network.

Other formats, other precision, and quantization, calibrated well and badly.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.equivalence.networks import Material, Prepared

BATCH = 250
_PART = 100
"""Images with all activations in memory at once."""
Maker = "Callable[[Material, Path], str]"
"""Writes an artifact to a path, given without a suffix, and returns what names it: a file, or a
SPEC.
"""


def exported(network: nn.Module, images: Tensor, path: Path) -> str:
    """Export to ONNX with the weights inside and a batch of any size."""
    batches = {"pixels": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The newer exporter needs one more package.
        torch.onnx.export(
            network.eval(),
            (images[:2],),
            f"{path}.onnx",
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes=batches,
            dynamo=False,
        )
    return f"{path}.onnx"


def saved(network: nn.Module, of: Material, path: Path) -> str:
    """Save the weights.

    Those of the two larger networks in OpenVINO's format, which predicts them faster.
    """
    if isinstance(network, Prepared):
        return _in_openvino(network, of, path)
    torch.save(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, f"{path}.pth"
    )
    return f"{path}.pth"


def recorded(network: nn.Module, of: Material, path: Path) -> str:
    """Record predictions of a network that no file format can keep, in batches of 250."""
    with torch.no_grad():
        logits = torch.cat([network(batch) for batch in of.test.split(BATCH)])
    np.savez(f"{path}.npz", logits=logits.numpy())
    return f"predictions:{path}.npz"


def onnx(of: Material, path: Path) -> str:
    """Export in float32."""
    return exported(of.network, of.images, path)


def openvino(of: Material, path: Path) -> str:
    """Convert to OpenVINO's format in float32."""
    return _in_openvino(of.network, of, path)


def _in_openvino(network: nn.Module, of: Material, path: Path) -> str:
    import openvino as ov

    ov.save_model(
        ov.convert_model(exported(network, of.images, path)), f"{path}.xml", compress_to_fp16=False
    )
    return f"openvino:{path}.xml"


def channels_last(of: Material, path: Path) -> str:
    """Save the weights with the channels in the innermost dimension."""
    made = {name: _innermost(tensor) for name, tensor in of.network.state_dict().items()}
    torch.save(made, f"{path}.pth")
    return f"{path}.pth"


def _innermost(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


class _Batches:
    """Calibration images in the form that ONNX Runtime reads."""

    def __init__(self, images: Tensor) -> None:
        self.batches: Iterator[Tensor] = iter(images.split(BATCH))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {"pixels": batch.numpy().astype(np.float32)}


def int8_dynamic(of: Material, path: Path) -> str:
    """Quantize weights to int8 beforehand, and activations on the fly."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(
        exported(of.network, of.images, Path(f"{path}-float32")),
        f"{path}.onnx",
        weight_type=QuantType.QUInt8,
    )
    return f"{path}.onnx"


def int8(
    calibration: Callable[[Material], Tensor] = lambda of: of.images, *, per_channel: bool = True,
    entropy: bool = False, percentile: float | None = None,
) -> Maker:  # fmt: skip
    """Return what quantizes to int8, with these images.

    Each channel by its own scale, or each tensor by one.

    The range of activations is the whole one, or this `percentile` of their absolute values, or
    that of least `entropy`.
    """
    method = "Entropy" if entropy else "MinMax" if percentile is None else "Percentile"

    def made(of: Material, path: Path) -> str:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static

        logging.getLogger().setLevel(logging.ERROR)
        float32, images = exported(of.network, of.images, Path(f"{path}-float32")), calibration(of)
        quantize_static(
            float32,
            f"{path}.onnx",
            None if entropy else _Batches(images),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            calibrate_method=CalibrationMethod[method],
            extra_options={} if percentile is None else {"CalibPercentile": percentile},
            calibration_cache_path=_ranges_by_entropy(float32, images, path) if entropy else None,
        )
        return f"{path}.onnx"

    return made


def _ranges_by_entropy(network: str, images: Tensor, path: Path) -> str:
    """Write the range of each activation that loses least, by its entropy in 128 levels.

    Returns the file.

    `quantize_static` alone finds no range: it divides 128 levels into 128 bins, so the whole range
    is its only choice. The 2,048 bins are those of TensorRT.
    """
    from onnxruntime.quantization.calibrate import (
        CalibrationMethod,
        create_calibrator,
        save_tensors_data,
    )

    calibrator = create_calibrator(
        network,
        augmented_model_path=f"{path}-augmented.onnx",
        calibrate_method=CalibrationMethod.Entropy,
        extra_options={"num_bins": 2048, "num_quantized_bins": 128},
    )
    for part in images.split(_PART):
        calibrator.collect_data(_Batches(part))
    save_tensors_data(calibrator.compute_data(), f"{path}-ranges.json")
    return f"{path}-ranges.json"


def noise(of: Material) -> Tensor:
    """Return noise in place of images."""
    return torch.rand(of.images.shape, generator=torch.Generator().manual_seed(0))


def dimmed(of: Material) -> Tensor:
    """Return images at a third of their light."""
    return of.images / 3


def of_one_class(of: Material) -> Tensor:
    """Return images of the sandals alone."""
    return of.images[of.labels == 5]
