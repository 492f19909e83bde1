"""Standard streams of a gate run: none that is closed or full gives the process an exit status of its own."""

from __future__ import annotations

import io
import sys


def stand_in() -> None:
    """Put a stream that takes everything in place of each standard stream that takes nothing.

    That is one that was closed from the start, one that is full, or one that nobody reads any longer.
    """
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (AttributeError, OSError, ValueError):
            setattr(sys, name, io.StringIO())
