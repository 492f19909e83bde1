"""Termination of a process by SIGTERM or SIGHUP, handled in place of a death without a message."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.base.codes import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end."""
GRACE_SECONDS = 10
"""Most seconds that a process may take to end after such a signal, before it is killed."""
_handled: set[int] = set()
"""The signals that this process handles at present."""


class TerminatedError(BaseException):
    """A signal that asks this process to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(ended_by(number))
        self.signal = number


def ended_by(number: signal.Signals) -> str:
    """Return the message for a run of the gate that a signal ended."""
    return f"[{Code.INTERRUPTED}] the run was ended by {number.name} and came to no verdict; run the gate again"


def on_termination(handle: Callable[[signal.Signals], None]) -> Callable[[], None]:
    """Call `handle` once in place of death by a signal; return a function that undoes this.

    A signal that is ignored (`nohup`), or that other code handles, does not change. Forks of this process die as usual.
    Outside the main thread it does nothing.
    """

    def end(number: int, _: object) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_IGN)
        handle(signal.Signals(number))

    def undo() -> None:
        for each in mine:
            if signal.getsignal(each) in {end, signal.SIG_IGN}:
                signal.signal(each, signal.SIG_DFL)
        _handled.difference_update(mine)

    main = threading.current_thread() is threading.main_thread()
    mine = [number for number in SIGNALS if main and signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, end)
    _handled.update(mine)
    return undo


def _die_as_usual() -> None:
    for number in _handled:
        signal.signal(number, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_die_as_usual)


@contextmanager
def termination_raised() -> Iterator[None]:
    """Raise `TerminatedError` in the block for the first signal that would end this process; ignore later ones."""

    def stop(number: signal.Signals) -> None:
        raise TerminatedError(number)

    undo = on_termination(stop)
    try:
        yield
    finally:
        undo()
