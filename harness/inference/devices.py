"""Devices: choosing one, moving pixels there, and the number of images per batch."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

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


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(usable_cores())


def pick_device(wanted: str = "auto") -> str:
    """Return the device to run on: the one asked for, or for "auto" CUDA, MPS or the CPU, the first there is.

    Raises `InputError` when PyTorch does not know the device or has none.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {wanted!r} cannot be used ({reason}); expected auto, cpu, cuda or mps") from None
    return wanted


def is_accelerator(device: torch.device) -> bool:
    """Return whether a device works through a queue of its own, and is best fed by one thread with large batches."""
    return device.type != "cpu"


def side_by_side(device: torch.device, workers: int) -> int:
    """Return how many batches to run at a time: those that are wanted on a CPU, one on an accelerator."""
    return 1 if is_accelerator(device) else workers


def moved(pixels: Tensor, device: torch.device) -> Tensor:
    """Return pixels on a device; to CUDA from pinned memory, so that nobody waits for the copy."""
    if device.type == "cuda" and pixels.device.type == "cpu":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 as float32 on CUDA too, in convolutions and products of matrices, while the context lasts."""
    restore = [_without_tf32(torch.backends.cudnn, getattr(torch.backends.cudnn, "conv", None))]
    restore.append(_without_tf32(torch.backends.cuda.matmul, torch.backends.cuda.matmul))
    try:
        yield
    finally:
        for setting, name, found in restore:
            setattr(setting, name, found)


def _without_tf32(older: Any, newer: Any) -> tuple[Any, str, Any]:
    """Switch TF32 off in one of PyTorch's settings; returns what to restore: of what, which attribute, its value."""
    try:
        found = older, "allow_tf32", older.allow_tf32
        older.allow_tf32 = False
    except RuntimeError:  # Somebody has used the newer names, and PyTorch then refuses the older ones.
        found = newer, "fp32_precision", newer.fp32_precision
        newer.fp32_precision = "ieee"
    return found


def batch_size(shape: Sequence[int], device: torch.device, *, screening: bool) -> int:
    """Return how many images of a shape, (C, H, W), go through a model at once; in bfloat16 if `screening`.

    Shape and device decide it, never a stopwatch: the size of a batch may change the last bits of a result.
    """
    accelerated = is_accelerator(device)
    most = (ACCELERATOR_BATCHES if accelerated else (FLOAT32_BATCH, BFLOAT16_BATCH))[screening]
    bytes_per_image = _VALUES_PER_PIXEL * max(1, shape[-2] * shape[-1]) * (2 if screening else 4)
    fitting = (ACCELERATOR_ROOM if accelerated else ROOM) // bytes_per_image
    return most if fitting >= most else 1 << max(0, fitting.bit_length() - 1)
