"""The artifacts of the benchmark, by name: what exports, quantization, pruning and mistakes make of a network.

Artifacts of the first table helped to choose the tolerance. Those of the second table chose nothing: they are of other
kinds, and were measured last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from benchmarks.equivalence import pipelines, weights
from benchmarks.equivalence.exports import (
    Maker,
    channels_last,
    dimmed,
    int8,
    int8_dynamic,
    noise,
    of_one_class,
    onnx,
    openvino,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOWN: Mapping[str, Maker] = {
    "onnx": onnx,
    "channels-last": channels_last,
    "float16": weights.rounded_to(torch.float16),
    "bfloat16": weights.rounded_to(torch.bfloat16),
    "int8-dynamic": int8_dynamic,
    "int8-per-channel": int8(),
    "int8-per-tensor": int8(per_channel=False),
    "int8-on-noise": int8(noise),
    "int8-on-dimmed": int8(dimmed),
    **{f"bits-{number}": weights.bits(number) for number in (8, 7, 6, 5, 4)},
    **{f"noise-{percent}": weights.noisy(percent / 100) for percent in (2, 5, 10)},
    **{f"batch-norm-{images}": weights.reestimated(images) for images in (1_000, 500, 250)},
}
"""Artifacts by name, of the kinds that the tolerance was chosen with."""
HELD_OUT: Mapping[str, Maker] = {
    "openvino": openvino,
    "int8-entropy": int8(entropy=True),
    "int8-on-one-class": int8(of_one_class),
    **{f"pruned-{percent}": weights.pruned(percent / 100) for percent in (5, 10, 20, 40)},
    "batch-norm-in-training": weights.statistics_in_training,
    "statistics-of-another-epoch": weights.later_with_statistics_of_before,
    "dropout-left-on": weights.dropout_left_on(),
    "layer-of-another-epoch": weights.one_layer_of_later,
    "another-epoch": weights.later,
    "averaged-weights": weights.averaged,
    "two-logits-swapped": pipelines.reordered(1, 0),
    "classes-reversed": pipelines.reordered(),
    "channels-swapped": pipelines.prepared(swapped=True),
    "not-normalized": pipelines.prepared(normalized=False),
    "normalized-twice": pipelines.after(pipelines.standardized),
    "enlarged-to-nearest": pipelines.prepared(mode="nearest"),
    "enlarged-bicubic": pipelines.prepared(mode="bicubic"),
    "resized-and-back": pipelines.after(pipelines.resized),
    "antialiased": pipelines.after(pipelines.antialiased),
    "cropped-by-one-pixel": pipelines.after(pipelines.cropped),
    "shifted-one-pixel": pipelines.after(pipelines.shifted),
    "scaled-by-256": pipelines.after(lambda pixels: pixels * (255 / 256)),
}
"""Artifacts by name, of other kinds."""
LOSSLESS: Mapping[str, Maker] = {"onnx": onnx, "channels-last": channels_last, "openvino": openvino}
"""Conversions that lose nothing but float noise."""
