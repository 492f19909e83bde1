"""Keep large freed buffers in the process, where glibc would hand them back and fault them in anew."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LIMIT = 1 << 30


@cache
def keep_freed_buffers() -> None:
    """Tell glibc's malloc to reuse buffers up to 1 GiB; elsewhere do nothing.

    Layer outputs of a few megabytes are allocated and freed thousands of times a second. By default each one is a new
    memory mapping whose pages fault in again, which takes about half the time of inference on a CPU (mallopt(3)).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LIMIT)
        libc.mallopt(_M_TRIM_THRESHOLD, _LIMIT)
