"""Sessions of ONNX Runtime, and the computation of one image before a network is used.

The process of this trial loads this file alone, so it imports nothing of the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnxruntime

_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
"""Types of an input of images, as ONNX Runtime names them; uint8 takes pixels from 0 to 255."""
_DIMENSIONS = 4
"""Those of a batch of images: (N, C, H, W), or (N, H, W, C)."""
_ONLY_FATAL_ERRORS = 4


class ImageInput(NamedTuple):
    """The input of a network.

    Attributes:
        name: Its name.
        kind: The type of its numbers.
        batch: The size of a batch that the file fixes, or None for any.
        sizes: The (C, H, W) that the file fixes, each None for any.
        last: Whether channels are the last dimension.
    """

    name: str
    kind: Any
    batch: int | None
    sizes: tuple[int | None, ...]
    last: bool


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """Return a session on one thread, which has no state.

    Raises any exception of ONNX Runtime for an invalid file; they have no common base class.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _ONLY_FATAL_ERRORS
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def input_of(session: onnxruntime.InferenceSession) -> ImageInput:
    """Return the input of a network.

    Raises `ValueError` without one input of images and one output.
    """
    inputs = session.get_inputs()
    outputs = session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs")
    (images,) = inputs
    if images.type not in _KINDS or len(images.shape) != _DIMENSIONS:
        raise ValueError(f"its input is {images.type} of shape {images.shape}")

    # A dimension of any size has a name, or None.
    dimensions = [size if isinstance(size, int) else None for size in images.shape]
    batch, *sizes = dimensions
    channels = {1, 3}
    channels_last = sizes[2] in channels and sizes[0] not in channels  # As in exports of Keras.
    if channels_last:
        sizes = [sizes[2], *sizes[:2]]
    return ImageInput(images.name, _KINDS[images.type], batch, tuple(sizes), channels_last)


def compute_one_image(content: bytes, _weights: bytes, shape: Sequence[int]) -> None:
    """Compute one blank image of a shape (C, H, W), or a whole batch if the file fixes its size."""
    session = open_session(content)
    images = input_of(session)
    sizes = [fixed or size for fixed, size in zip(images.sizes, shape, strict=True)]
    if images.last:
        sizes = [*sizes[1:], sizes[0]]
    batch = np.zeros((images.batch or 1, *sizes), dtype=images.kind)
    session.run(None, {images.name: batch})
