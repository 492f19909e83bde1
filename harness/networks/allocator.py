"""Keep large freed buffers in the process, where glibc would hand them back and fault them in anew."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LAYERS = 1 << 26
"""Bytes of a buffer that is reused: above what a layer puts out for a batch, see `harness.inference.batches`. What is
larger are images, which would leave holes between the buffers."""
_LAYERS_OF_OLD = 1 << 25
"""The largest threshold of a mapping that glibc took before 2.35."""
_KEPT = 1 << 28
"""Bytes that are kept free at most at the end of the arena."""


@cache
def keep_freed_buffers() -> None:
    """Tell glibc's malloc to reuse the buffers of layers, for all threads alike; elsewhere do nothing.

    Layer outputs of a few megabytes are allocated and freed thousands of times a second. By default each one is a new
    memory mapping whose pages fault in again, which takes about half the time of inference on a CPU (mallopt(3)).
    Another thread than the main one has an arena of heaps of 64 MiB, each unmapped once it is empty whatever the
    thresholds say, which cost 7 ms of system time an image at 224 px; so all threads share the one of the main thread.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if not libc.mallopt(_M_MMAP_THRESHOLD, _LAYERS):
            libc.mallopt(_M_MMAP_THRESHOLD, _LAYERS_OF_OLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
        libc.mallopt(_M_ARENA_MAX, 1)
