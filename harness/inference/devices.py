"""What there is to compute on."""

from __future__ import annotations

import os

import torch

from harness.errors import InputError


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
