"""A process that ends with the one that started it, where the system can do that (Linux)."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress


def end_with_parent(parent: int) -> None:
    """Have the system kill this process when the thread of `parent`, which started it, ends.

    If another process is its parent by now, that one has died, and this process ends at once. It does nothing where
    the system has no such request.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
