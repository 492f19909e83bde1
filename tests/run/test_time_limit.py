"""The time limit of code that runs a model.

It interrupts what hangs, whatever that does to the timer.
"""

import signal
import subprocess
import sys
import time

import pytest

from harness.run.time_limit import TimeLimitExceededError, time_limit


def test_time_limit_interrupts_what_takes_longer():
    with (
        pytest.raises(TimeLimitExceededError, match=r"sleeping: no answer within 0\.1 s"),
        time_limit(0.1, "sleeping"),
    ):
        time.sleep(5)


@pytest.mark.parametrize("seconds", [0, 5], ids=["none", "long"])
def test_time_limit_lets_pass_what_is_quick(seconds):
    with time_limit(seconds, "sleeping"):
        time.sleep(0.01)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_time_limit_whose_timer_was_stopped_holds(monkeypatch):
    """As by a model that sets an alarm of its own, in whichever thread."""
    monkeypatch.setattr("harness.run.time_limit._GRACE", 0.2)

    def stop_the_timer_and_hang():
        signal.alarm(0)
        time.sleep(60)
        pytest.fail("not interrupted")

    with pytest.raises(TimeLimitExceededError), time_limit(0.1, "sleeping"):
        stop_the_timer_and_hang()


DEAF = """
import signal, sys, time
from harness.run import time_limit
time_limit._GRACE = 0.2
with time_limit.time_limit(0.1, "sleeping"):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(60)
"""


def test_time_limit_whose_signal_was_taken_over_ends_the_process():
    run = subprocess.run(
        [sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=50, check=False
    )
    assert run.returncode == 4
    assert run.stderr == "sleeping: no answer within 0.1 s, nor to the signal; the process ends\n"


def test_time_limit_within_another_leaves_it_running():
    def nested():
        with time_limit(0.3, "outer"):
            with time_limit(5, "inner"):
                time.sleep(0.1)
            time.sleep(5)

    with pytest.raises(TimeLimitExceededError, match="outer"):
        nested()
