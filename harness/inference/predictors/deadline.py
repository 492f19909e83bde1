"""A deadline for a thread that waits for another process or machine."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def within(seconds: float, end: Callable[[], None]) -> Iterator[threading.Event]:
    """Yield an event that is set, before a call of `end`, once the block has taken too long.

    `end` runs in another thread and must end the block's wait, as the shutdown of a socket does.
    """
    late = threading.Event()

    def ring() -> None:
        late.set()
        end()

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
