"""Dynamic quantization in ONNX files: numbers are quantized by the range of a whole batch."""

from __future__ import annotations

from typing import Any

from harness.features.onnx.parts import parts_of

_DYNAMIC_STEPS = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
"""Steps that quantize by the range of their input, alone or merged with the step after them."""
_EXTREMES = {"ReduceMin", "ReduceMax"}


def has_dynamic_ranges(description: Any) -> bool:
    """Return whether a step of an ONNX model quantizes by the range of a whole batch."""
    return any(_takes_range(node) for node in parts_of(description, "NodeProto"))


def _takes_range(node: Any) -> bool:
    """Return whether a step takes the range of a whole tensor, as dynamic quantization does.

    For uint8, ONNX Runtime has steps of their own; for int8, it takes the extremes over all axes.
    """
    if node.op_type not in _EXTREMES:
        return node.op_type in _DYNAMIC_STEPS
    # Axes are an attribute, or an input since operator set 18; without them, all are reduced.
    has_axes = any(attribute.name == "axes" for attribute in node.attribute)
    return not has_axes and not any(node.input[1:])
