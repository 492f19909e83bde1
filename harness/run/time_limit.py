"""A time limit for code that runs a model: a run reports a model that never returns."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.base.errors import Interruption
from harness.run.status import NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Iterator

_AGAIN = 10.0
"""Seconds until the error is raised anew, should something have swallowed it, such as a destructor.
"""
_GRACE = 30.0
"""Seconds over time until the timer is set anew, should something have stopped it, and then until
the process ends.
"""
_limits: list[object] = []
"""The limits that run, each within the one before it."""


class TimeLimitExceededError(Interruption):
    """No answer in time; not an `Exception`, which a model, a test or Hypothesis might catch."""

    code = Code.TIME_LIMIT


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise `TimeLimitExceededError` in the main thread when the block takes longer; 0 is no limit.

    A timer's signal interrupts Python code and waiting for other threads, such as those that run a
    model's batches. The process does not end, so reports are still written. The signal fails if a
    model took it over, or if native code in the main thread never returns. Then the process ends by
    itself a minute later, with 4. A system without that signal (Windows) and other threads have no
    limit. A timer that was running before continues after.
    """
    if (
        not seconds
        or not hasattr(signal, "SIGALRM")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def give_up(*_: object) -> None:
        if ended.is_set():
            return
        raise TimeLimitExceededError(
            f"{what}: no answer within {seconds:g} s; a model that hangs cannot be judged, one "
            "that is slow needs a longer timeout or fewer --stress-samples"
        )

    start, ended = time.monotonic(), threading.Event()
    threading.Thread(target=_insist, args=(seconds, what, ended), daemon=True).start()
    _limits.append(ended)
    before = signal.signal(signal.SIGALRM, give_up)
    remaining, interval = 0.0, 0.0
    try:
        # The signal may come at any line from here on, also at one of the cleanup, which must end
        # all the same.
        try:
            remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
            yield
        finally:
            ended.set()
    finally:
        ended.set()
        _limits.remove(ended)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if remaining:
            signal.setitimer(
                signal.ITIMER_REAL, max(remaining - (time.monotonic() - start), 0.001), interval
            )


def _insist(seconds: float, what: str, ended: threading.Event) -> None:
    """Set the timer anew when the time is over and nothing has come of it.

    When that is of no use, end the process.
    """
    process, over = os.getpid(), seconds
    for last in (False, True):
        while not ended.wait(over + _GRACE):
            over = 0.0
            if _limits[-1:] == [ended]:  # Else one within this one runs, with a timer of its own.
                break
        if ended.is_set() or os.getpid() != process:
            return
        if not last:
            signal.setitimer(signal.ITIMER_REAL, 0.001, _AGAIN)
    print(
        f"{what}: no answer within {seconds:g} s, nor to the signal; the process ends",
        file=sys.__stderr__,
    )
    os._exit(NOT_JUDGED)
