"""The artifacts of the benchmark, by name: what exports, quantization, pruning and mistakes make of a network.

Artifacts of the first table helped to choose the tolerance. Those of the second table chose nothing: they are of other
kinds, and were measured last.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from benchmarks.equivalence import changes
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
)  # fmt: skip

SHOWN: Mapping[str, Maker] = {
    "onnx": onnx,
    "channels-last": channels_last,
    "float16": changes.rounded_to(torch.float16),
    "bfloat16": changes.rounded_to(torch.bfloat16),
    "int8-dynamic": int8_dynamic,
    "int8-per-channel": int8(),
    "int8-per-tensor": int8(per_channel=False),
    "int8-on-noise": int8(noise),
    "int8-on-dimmed": int8(dimmed),
    **{f"bits-{number}": changes.bits(number) for number in (8, 7, 6, 5, 4)},
    **{f"noise-{percent}": changes.noisy(percent / 100) for percent in (2, 5, 10)},
    **{f"batch-norm-{images}": changes.reestimated(images) for images in (1_000, 500, 250)},
}
"""Artifacts by name, of the kinds that the tolerance was chosen with."""
HELD_OUT: Mapping[str, Maker] = {
    "openvino": openvino,
    "int8-entropy": int8(entropy=True),
    "int8-on-one-class": int8(of_one_class),
    **{f"pruned-{percent}": changes.pruned(percent / 100) for percent in (5, 10, 20, 40)},
    "batch-norm-in-training": changes.statistics_in_training,
    "statistics-of-another-epoch": changes.later_with_statistics_of_before,
    "dropout-left-on": changes.dropout_left_on(),
    "layer-of-another-epoch": changes.one_layer_of_later,
    "another-epoch": changes.later,
    "averaged-weights": changes.averaged,
    "two-logits-swapped": changes.reordered(1, 0),
    "classes-reversed": changes.reordered(),
    "channels-swapped": changes.prepared(swapped=True),
    "not-normalized": changes.prepared(normalized=False),
    "normalized-twice": changes.after(changes.standardized),
    "enlarged-to-nearest": changes.prepared(mode="nearest"),
    "enlarged-bicubic": changes.prepared(mode="bicubic"),
    "resized-and-back": changes.after(changes.resized),
    "antialiased": changes.after(changes.antialiased),
    "cropped-by-one-pixel": changes.after(changes.cropped),
    "shifted-one-pixel": changes.after(changes.shifted),
    "scaled-by-256": changes.after(lambda pixels: pixels * (255 / 256)),
}
"""Artifacts by name, of other kinds."""
LOSSLESS: Mapping[str, Maker] = {"onnx": onnx, "channels-last": channels_last, "openvino": openvino}
"""Conversions that lose nothing but float noise."""
