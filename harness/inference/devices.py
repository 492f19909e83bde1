"""Devices: the choice of one, its batch sizes, and the threads that run batches.

Each thread has one core.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from harness.base.errors import InputError, Interruption, raised
from harness.networks.process import ProcessSettings, streams_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from torch import Tensor


T = TypeVar("T")

_watching: list[Callable[[int], object]] = []
"""Functions that are called with the number of inputs of each finished batch."""

_PATIENCE = 1.0
"""Seconds that a batch gets to end if its results are no longer needed."""


def in_batches(
    work: Callable[[np.ndarray], T], positions: np.ndarray, *, size: int, workers: int
) -> list[T]:
    """Return the results of `work` for batches of positions, in order.

    `workers` run in parallel on one thread each. Raises the error of the first batch that fails.
    `work` itself may call this function.
    """
    batches = [positions[start : start + size] for start in range(0, len(positions), size)]
    waiting = deque(range(len(batches)))  # Its own operations are atomic.
    finished: queue.SimpleQueue[int] = queue.SimpleQueue()
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def take() -> None:
        while not errors:
            try:
                number = waiting.popleft()
            except IndexError:
                return
            try:
                try:
                    results[number] = work(batches[number])
                finally:
                    settings.restore()
            except (Exception, Interruption) as error:  # The waiting thread raises it again.
                errors[number] = error
            except (
                BaseException
            ) as error:  # The model raised it; only the main thread may end a run.
                errors[number] = raised(error)
            finished.put(number)

    with _one_thread_per_worker(), streams_open():
        settings = ProcessSettings()
        ended = [_started(take) for _ in range(min(workers, len(batches)))]
        try:
            _await_batches(batches, finished, errors)
        finally:
            waiting.clear()
            for end in ended:
                end.wait(_PATIENCE)
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(batches))]


def _await_batches(
    batches: Sequence[np.ndarray],
    finished: queue.SimpleQueue[int],
    errors: Mapping[int, BaseException],
) -> None:
    """Wait until all batches are finished, or one has an error; tell the watching functions."""
    for _ in batches:
        number = finished.get()
        if number in errors:
            return
        for watch in _watching:
            watch(len(batches[number]))


@contextmanager
def watched(watch: Callable[[int], object]) -> Iterator[None]:
    """Call `watch` with the number of inputs of each finished batch while the block runs."""
    _watching.append(watch)
    try:
        yield
    finally:
        _watching.remove(watch)


class _Worker:
    """A thread that waits for jobs; it is in `_idle` whenever it has none."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name="harness-worker", daemon=True).start()

    def _work(self) -> None:
        while True:
            job, ended = self.jobs.get()
            if (
                torch.get_num_threads() != 1
            ):  # PyTorch stores it per thread, and a model may have changed it.
                torch.set_num_threads(1)
            try:
                job()
            finally:
                del job  # A waiting thread must not keep a model alive.
                _idle.append(self)
                ended.set()


_idle: deque[_Worker] = deque()
"""The workers without a job. A deque's own operations are atomic."""


def _begin_copy() -> None:
    """Forget all threads in a fork of this process.

    The fork has none of them and would wait forever.
    """
    _idle.clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_copy)


def _started(job: Callable[[], None]) -> threading.Event:
    """Give a job to a worker, a new one if none is idle; returns the event of its end."""
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    ended = threading.Event()
    worker.jobs.put((job, ended))
    return ended


@contextmanager
def _one_thread_per_worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with without_tf32():
            yield
    finally:
        torch.set_num_threads(threads)


FLOAT32_BATCH, BFLOAT16_BATCH = 32, 125
"""Most images per forward pass on a CPU in each precision; these suit its caches best at 28 x 28
pixels. Smaller batches are padded. float32 mostly confirms a few predictions, so larger batches
would be mostly padding.
"""
ACCELERATOR_BATCHES = 128, 512
"""The same on an accelerator, which needs more work at once."""
ROOM, ACCELERATOR_ROOM = 1 << 25, 1 << 30
"""Most bytes of a layer's output for a batch, estimated by `_VALUES_PER_PIXEL`. With images of 224
px, a CPU takes 8 and 16 at a time. More would not be faster, and would need four times the memory
and more padding.
"""
_VALUES_PER_PIXEL = 16
"""Values of the largest layer output for each pixel of an image. Residual networks (64 channels at
half the resolution) and vision transformers (3,072 for each of 16 x 16 pixels) are close to it.
"""


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )


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
        raise InputError(
            f"device {wanted!r} cannot be used ({reason}); expected auto, cpu, cuda or mps"
        ) from None
    return wanted


def is_accelerator(device: torch.device) -> bool:
    """Return whether a device has its own queue, which one thread with large batches fills best."""
    return device.type != "cpu"


def moved(pixels: Tensor, device: torch.device) -> Tensor:
    """Return pixels on a device; to CUDA from pinned memory, so the copy is asynchronous."""
    if device.type == "cuda" and pixels.device.type == "cpu":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Switch TF32 off on CUDA, for convolutions and matrix products, while the context lasts."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings: list[tuple[Any, Any]] = [(cudnn, getattr(cudnn, "conv", None)), (matmul, matmul)]
    with ExitStack() as restored:
        for older, newer in settings:
            try:
                found = older.allow_tf32
                older.allow_tf32 = False
                restored.callback(setattr, older, "allow_tf32", found)
            except RuntimeError:  # After a use of the newer names, PyTorch refuses the older ones.
                restored.callback(setattr, newer, "fp32_precision", newer.fp32_precision)
                newer.fp32_precision = "ieee"
        yield


def batch_size(shape: Sequence[int], device: torch.device, *, screening: bool) -> int:
    """Return the batch size for images of a shape, (C, H, W); in bfloat16 if `screening`.

    Only shape and device determine it, never a measured time, since the batch size may change the
    last bits.
    """
    accelerated = is_accelerator(device)
    most = (ACCELERATOR_BATCHES if accelerated else (FLOAT32_BATCH, BFLOAT16_BATCH))[screening]
    bytes_per_image = _VALUES_PER_PIXEL * max(1, shape[-2] * shape[-1]) * (2 if screening else 4)
    fitting = (ACCELERATOR_ROOM if accelerated else ROOM) // bytes_per_image
    return most if fitting >= most else 1 << max(0, fitting.bit_length() - 1)
