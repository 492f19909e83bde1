"""The computation of one image by OpenVINO, before a network is used.

The process of this trial loads this file alone, so it imports nothing of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_ONE_THREAD = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}


def compute_one_image(description: bytes, weights: bytes, shape: Sequence[int]) -> None:
    """Compute one blank image of a shape (C, H, W), or of the sizes that the file fixes."""
    import openvino

    core = openvino.Core()
    model = core.read_model(description, weights)
    (images,) = model.inputs
    sizes = []
    for dimension, size in zip(images.partial_shape, [1, *shape], strict=True):
        if dimension.is_dynamic:
            sizes.append(size)
        else:
            sizes.append(dimension.get_length())
    compiled = core.compile_model(model, "CPU", _ONE_THREAD)
    compiled([np.zeros(sizes, dtype=images.element_type.to_dtype())])
