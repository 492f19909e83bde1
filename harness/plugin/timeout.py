"""A time limit for what runs a model, so that one that never returns is reported as such."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.errors import Interruption

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from harness.plugin.run import GateRun

_AGAIN = 10.0
"""Seconds until the error is raised anew, should something have swallowed it, such as a destructor."""


class TimeLimitExceededError(Interruption):
    """No answer in time; not an `Exception`, lest a model, a test or Hypothesis take it for one of its own."""


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise `TimeLimitExceededError` in the main thread when the block takes longer; 0 is no limit.

    By a timer's signal, which interrupts Python code and waiting for other threads, such as those that run a model's
    batches, without ending the process: reports are still written. Not limited are a system without that signal
    (Windows), other threads, and native code in the main thread that never returns. A timer that was running before
    goes on after.
    """
    if not seconds or not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(*_: object) -> None:
        raise TimeLimitExceededError(
            f"{what}: no answer within {seconds:g} s; a model that hangs cannot be judged, one that is slow needs a "
            "longer --stress-timeout or fewer --stress-samples"
        )

    start = time.monotonic()
    before = signal.signal(signal.SIGALRM, give_up)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - start), 0.001), interval)


class TimeKeeper:
    """Limits the time of each test of a gate run, and ends the run after the first that exceeds it."""

    def __init__(self, run: GateRun) -> None:
        self.run = run

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Limit the time in which fixtures load what a test needs."""
        with self.run.limited(item.name):
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Limit the time of the test."""
        with self.run.limited(item.name):
            yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Let no other test wait for a model that hangs."""
        if call.excinfo is not None and isinstance(call.excinfo.value, TimeLimitExceededError):
            self.run.hung = True
            item.session.shouldstop = f"{item.name} gave no answer in time"
