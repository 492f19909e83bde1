"""Exports of the zoo's network in int8 with dynamic ranges, as ONNX Runtime writes them."""

import logging
import warnings

import torch
from zoo import network


def save_dynamic(path, *, batch=None):
    """Save the export, for batches of any size or of one; returns its name."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    pixels = torch.zeros(batch or 2, 1, 16, 16)
    axes = {} if batch else {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    names = {"input_names": ["x"], "output_names": ["y"]}
    plain = path.with_suffix(".float.onnx")
    logging.getLogger().setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The exporter's own.
        torch.onnx.export(network(), (pixels,), str(plain), dynamo=False, **names, **axes)
    quantize_dynamic(plain, path, weight_type=QuantType.QUInt8)
    return path.name
