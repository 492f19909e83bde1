"""Ends of processes, by their parents and by signals, and of waits that take too long."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from harness.base.codes import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def end_with_parent(parent: int) -> None:
    """Ask the system to kill this process when the thread of `parent` that started it ends.

    If this process has another parent by now, `parent` has died, and this process ends at once. On
    other systems it does nothing.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
GRACE_SECONDS = 10
"""Most seconds that a process may take to end after such a signal, before it is killed."""


class TerminatedError(BaseException):
    """A signal that asks this process to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(ended_by(number))
        self.signal = number


def ended_by(number: signal.Signals) -> str:
    """Return the message for a run of the gate that a signal ended."""
    return (
        f"[{Code.INTERRUPTED}] the run was ended by {number.name} and came to no verdict; run the "
        "gate again"
    )


@contextmanager
def on_termination(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `handle` once in place of death by a signal, until the block ends.

    A signal that is ignored (`nohup`), or that other code handles, does not change. Forks of this
    process die as usual. Outside the main thread it does nothing.
    """
    process = os.getpid()

    def end(number: int, _: object) -> None:
        copied = os.getpid() != process
        for each in mine:
            signal.signal(each, signal.SIG_DFL if copied else signal.SIG_IGN)
        if copied:
            os.kill(os.getpid(), number)
        handle(signal.Signals(number))

    main = threading.current_thread() is threading.main_thread()
    mine = [number for number in _SIGNALS if main and signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            if signal.getsignal(number) in {end, signal.SIG_IGN}:
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def termination_raised() -> Iterator[None]:
    """Raise `TerminatedError` in the block for the first signal that would end this process.

    Ignore later ones.
    """

    def stop(number: signal.Signals) -> None:
        raise TerminatedError(number)

    with on_termination(stop):
        yield


@contextmanager
def within(seconds: float | None, end: Callable[[], object]) -> Iterator[threading.Event]:
    """Yield an event that is set, before a call of `end`, once the block has taken too long.

    With None there is no limit.

    `end` runs in another thread and must end the block's wait, as the shutdown of a socket does.
    """
    late = threading.Event()
    if seconds is None:
        yield late
        return

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
