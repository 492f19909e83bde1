"""How many images go through a model at once: by the size of the images and the device, never by a stopwatch.

The shape of a batch may change the last bits of a result, so that its size has to be the same in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.inference.devices import is_accelerator

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

FLOAT32_BATCH, BFLOAT16_BATCH = 32, 125
"""Images per forward pass on a CPU in each precision, at most: what its caches like best at 28 x 28 pixels. Smaller
batches are padded; float32 mostly confirms a few answers, so that large batches would be mostly padding."""
ACCELERATOR_BATCHES = 128, 512
"""The same on an accelerator, which wants more work at once."""
ROOM, ACCELERATOR_ROOM = 1 << 25, 1 << 30
"""Bytes that a layer's output may have for a batch, as `_VALUES_PER_PIXEL` estimates it. Of images of 224 px, a CPU
takes 8 and 16: it is no faster with more, and these need a quarter of the memory and less padding."""
_VALUES_PER_PIXEL = 16
"""Values that the largest layer output has for each pixel of an image: 64 channels at half the resolution in residual
networks, 3,072 for each of 16 x 16 pixels in vision transformers come close."""


def batch_size(shape: Sequence[int], device: torch.device, *, screening: bool) -> int:
    """Return how many images of a shape, (C, H, W), go through a model at once; in bfloat16 if `screening`."""
    accelerated = is_accelerator(device)
    most = (ACCELERATOR_BATCHES if accelerated else (FLOAT32_BATCH, BFLOAT16_BATCH))[screening]
    bytes_per_image = _VALUES_PER_PIXEL * max(1, shape[-2] * shape[-1]) * (2 if screening else 4)
    fitting = (ACCELERATOR_ROOM if accelerated else ROOM) // bytes_per_image
    return most if fitting >= most else 1 << max(0, fitting.bit_length() - 1)
