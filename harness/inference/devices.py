"""Devices: the choice of one, the transfer of pixels to it, and its batch sizes."""

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
"""Most images per forward pass on a CPU in each precision; these suit its caches best at 28 x 28 pixels. Smaller
batches are padded. float32 mostly confirms a few predictions, so larger batches would be mostly padding."""
ACCELERATOR_BATCHES = 128, 512
"""The same on an accelerator, which needs more work at once."""
ROOM, ACCELERATOR_ROOM = 1 << 25, 1 << 30
"""Most bytes of a layer's output for a batch, estimated by `_VALUES_PER_PIXEL`. With images of 224 px, a CPU takes 8
and 16 at a time. More would not be faster, and would need four times the memory and more padding."""
_VALUES_PER_PIXEL = 16
"""Values of the largest layer output for each pixel of an image. Residual networks (64 channels at half the resolution)
and vision transformers (3,072 for each of 16 x 16 pixels) are close to it."""


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(usable_cores())


def pick_device(wanted: str = "auto") -> str:
    """Return the wanted device; for "auto", the first available one of CUDA, MPS and the CPU.

    Raises `InputError` for a device that PyTorch does not know or cannot use.
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
    """Return whether a device has its own queue, which one thread with large batches fills best."""
    return device.type != "cpu"


def side_by_side(device: torch.device, workers: int) -> int:
    """Return the number of parallel batches: `workers` on a CPU, one on an accelerator."""
    return 1 if is_accelerator(device) else workers


def moved(pixels: Tensor, device: torch.device) -> Tensor:
    """Return pixels on a device; to CUDA from pinned memory, so the copy is asynchronous."""
    if device.type == "cuda" and pixels.device.type == "cpu":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Switch TF32 off on CUDA, for convolutions and matrix products, while the context lasts."""
    restore = [_without_tf32(torch.backends.cudnn, getattr(torch.backends.cudnn, "conv", None))]
    restore.append(_without_tf32(torch.backends.cuda.matmul, torch.backends.cuda.matmul))
    try:
        yield
    finally:
        for setting, name, found in restore:
            setattr(setting, name, found)


def _without_tf32(older: Any, newer: Any) -> tuple[Any, str, Any]:
    """Switch TF32 off in one of PyTorch's settings; returns its object, attribute and value to restore."""
    try:
        found = older, "allow_tf32", older.allow_tf32
        older.allow_tf32 = False
    except RuntimeError:  # After a use of the newer names, PyTorch refuses the older ones.
        found = newer, "fp32_precision", newer.fp32_precision
        newer.fp32_precision = "ieee"
    return found


def batch_size(shape: Sequence[int], device: torch.device, *, screening: bool) -> int:
    """Return the batch size for images of a shape, (C, H, W); in bfloat16 if `screening`.

    Only shape and device determine it, never a measured time, since the batch size may change the last bits.
    """
    accelerated = is_accelerator(device)
    most = (ACCELERATOR_BATCHES if accelerated else (FLOAT32_BATCH, BFLOAT16_BATCH))[screening]
    bytes_per_image = _VALUES_PER_PIXEL * max(1, shape[-2] * shape[-1]) * (2 if screening else 4)
    fitting = (ACCELERATOR_ROOM if accelerated else ROOM) // bytes_per_image
    return most if fitting >= most else 1 << max(0, fitting.bit_length() - 1)
