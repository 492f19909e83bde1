"""Standard streams of a gate run: none that is closed or full gives the process an exit status of its own."""

from __future__ import annotations

import io
import sys


def stand_in(*, probe: str = "") -> None:
    """Put a stream that takes everything in place of each standard stream that takes nothing.

    That is one that was closed from the start, one that is full, or one that nobody reads any longer. Standard error
    has no buffer, so only a write shows that: `probe` is written there.
    """
    for name, text in (("stdout", ""), ("stderr", probe)):
        try:
            getattr(sys, name).write(text)
            getattr(sys, name).flush()
        except (AttributeError, OSError, ValueError):
            setattr(sys, name, io.StringIO())
