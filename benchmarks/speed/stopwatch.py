"""CPU seconds of a call, on the cores that it has, and lines of a table of them."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.runner import few


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: of the processor, all threads together, and of the clock."""

    cpu_seconds: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """One line of the table; `wanted` is the least that the harness set out to reach.

    None where it only reports.
    """

    what: str
    ours: str
    peer: str
    ratio: float
    wanted: float | None
    note: str = ""

    @property
    def reached(self) -> str:
        """Return whether the ratio is what was wanted."""
        return "" if self.wanted is None else ("yes" if self.ratio >= self.wanted else "**no**")


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Restrict this process, and PyTorch's threads, to so many cores."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, set(sorted(allowed)[:count]))
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, allowed)


def timed(call: Callable[[], object], *, repeats: int = 1) -> Timing:
    """Time a call and return its fastest repetition, since noise only ever adds."""
    timings = []
    for _ in range(few(repeats, 1)):
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        timings.append(Timing(time.process_time() - cpu, time.perf_counter() - wall))
    return min(timings, key=lambda timing: timing.cpu_seconds)


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best_float32_rate() -> float:
    """Return the best measured floating-point operations per second of a convolution.

    It has 256 channels and a 3x3 kernel.
    """
    convolution = torch.nn.Conv2d(256, 256, 3, padding=1).to(memory_format=torch.channels_last)
    count = few(64, 1)
    images = torch.rand(count, 256, 28, 28).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        convolution(images)
        seconds = timed(lambda: convolution(images), repeats=5).cpu_seconds
    return 2 * count * 28 * 28 * 256 * 256 * 9 / seconds
