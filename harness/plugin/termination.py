"""A gate run that SIGTERM or SIGHUP ends: it says so in all reports and ends with 4, at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from harness.base.termination import GRACE_SECONDS, ended_by, on_termination
from harness.plugin.exit_status import refuse
from harness.run.status import NOT_JUDGED

if TYPE_CHECKING:
    from contextlib import ExitStack
    from types import FrameType

    from harness.plugin.run import GateRun


def end_with_reports(run: GateRun, at_end: ExitStack) -> None:
    """Have a signal that would kill this run's process write its reports first; afterwards the process ends with 4.

    A run whose reports are settled ends with its own exit status. Workers of the run die with this process. A process
    that goes on after pytest handles its signals as before: `at_end` undoes this.
    """
    undo = on_termination(partial(_end, run))
    if not _process_is_pytest():
        at_end.callback(undo)


def _process_is_pytest() -> bool:
    """Return whether this process ends with pytest: its command line was called, and no function from Python."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "_pytest.config" and frame.f_code.co_name.endswith("console_main"):
            return True
        frame = frame.f_back
    return False


def _end(run: GateRun, number: signal.Signals) -> None:
    if run.settled_status is not None:
        os._exit(run.settled_status)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GRACE_SECONDS)
    reason = ended_by(number)
    with suppress(Exception):
        refuse(run, reason)
        run.handover.answer(status=NOT_JUDGED)
    with suppress(Exception):
        if capture := run.config.pluginmanager.getplugin("capturemanager"):
            capture.suspend_global_capture()
        print(f"\nERROR: {reason}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    os._exit(NOT_JUDGED)
