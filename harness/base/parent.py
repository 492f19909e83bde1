"""End of a process together with its parent, on Linux."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress


def end_with_parent(parent: int) -> None:
    """Ask the system to kill this process when the thread of `parent` that started it ends.

    If this process has another parent by now, `parent` has died, and this process ends at once. On other systems it
    does nothing.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
