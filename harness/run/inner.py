"""The inner process of a run: pytest with the request of the outer process, which waits for its record.

No other module starts pytest. This one needs neither PyTorch nor NumPy.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base import imports
from harness.base.codes import Code
from harness.base.termination import GRACE_SECONDS, TerminatedError, end_with_parent, ended_by
from harness.run.handover import Handover, new_run_id
from harness.run.request import command_line, with_options_read
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.run.handover import RunRecord
    from harness.run.request import RunRequest
    from harness.run.result import RunResult

PLUGIN = ("-p", "harness.plugin")
"""Options of pytest that load the gate's plugin, also where pytest loads none by itself."""
_CODE = "import sys\nfrom harness.run.inner import main\nsys.exit(main(*sys.argv[1:]))"
_SECONDS_TO_INTERRUPT = 1.0
"""Seconds after which a process has noticed Ctrl-C, if it was interrupted by the terminal."""
_TAIL = 15
"""Last lines of its output that the result of a run keeps."""


@dataclass(frozen=True)
class Launch:
    """Start of the inner process of a run.

    `arguments` are those of its pytest. `command` is the command line for people, for the reports. `search_path` is the
    first entry of `sys.path`; None for the working folder, as Python has it for code on its command line.
    """

    arguments: tuple[str, ...]
    command: tuple[str, ...]
    search_path: str | None = None

    @staticmethod
    def of(request: RunRequest) -> Launch:
        """Return the launch of a request whose options are read; its settings travel as JSON."""
        return Launch((*request.tests, *request.options), ("pytest", *command_line(request)))


@dataclass(frozen=True)
class Ended:
    """End of the inner process of a run: with a record, or without one.

    `status` is its exit status, and `printed` are the last lines of its output, empty where they went to the terminal.
    `ended_by` is the signal that ended the run, if it came to the outer process.
    """

    status: int
    printed: tuple[str, ...] = ()
    record: RunRecord | None = None
    ended_by: signal.Signals | None = None

    @property
    def was_interrupted(self) -> bool:
        """Return whether Ctrl-C ended the run."""
        status = self.record.status if self.record else self.status
        return status in {INTERRUPTED, -signal.SIGINT}

    @property
    def without_record(self) -> str:
        """Return why there is no record, as far as the outer process can know."""
        if self.ended_by is not None:
            return ended_by(self.ended_by)
        if self.was_interrupted:
            return f"[{Code.INTERRUPTED}] the run was interrupted and came to no verdict; run the gate again"
        how = f"exit status {self.status}"
        if self.status < 0:
            how = f"the signal {_name_of_signal(-self.status)}"
        return (
            f"[{Code.CRASH}] the gate ended with {how} and without a verdict: it crashed, or the model or a test ended "
            "it; nothing was judged"
        )


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal has no name.
        return str(number)


def run_inner(
    request: RunRequest,
    launch: Launch,
    *,
    shown: bool = False,
    on_line: Callable[[str], None] | None = None,
    by: Callable[[Path, Sequence[str]], tuple[int, tuple[str, ...]]] | None = None,
) -> Ended:
    """Run pytest in an inner process and return how that ended; it ends with this process.

    If `shown`, its output goes to the terminal. It handles Ctrl-C itself, and signals that ask this process to end go
    to it, too; after 10 s it is killed. Otherwise its output goes line by line to `on_line`. `by` starts pytest in
    place of a new process: it takes the file of the request and the arguments, and returns status and lines.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        handover = hand_over(request, launch, Path(folder, "request.json"))
        environment = {"PYTHONHASHSEED": "0", **os.environ}  # The same in each run.
        command = [
            sys.executable,
            "-u",
            "-c",
            _CODE,
            str(os.getpid()),
            str(handover.path),
            *launch.arguments,
        ]
        ended_by: signal.Signals | None = None
        printed: tuple[str, ...] = ()
        if by:
            status, printed = by(handover.path, launch.arguments)
        elif shown:
            status, ended_by = _in_terminal(command, environment, interrupted=handover.interrupted)
        else:
            status, printed = _captured(command, environment, on_line)
        record = handover.record()
    if record is not None:
        imports.include(record.code)
    return Ended(status, printed[-_TAIL:], record, ended_by)


def hand_over(request: RunRequest, launch: Launch, path: Path) -> Handover:
    """Write a request into a file, for the process that runs it, and return what that gets."""
    content = {
        "run_id": request.run_id,
        "request": request.plain,
        "command": launch.command,
        "search_path": launch.search_path,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return Handover(path)


def main(parent: str, path: str, *arguments: str) -> int:
    """Run pytest as the inner process of a run, and return its exit status."""
    end_with_parent(int(parent))
    handover = Handover(Path(path))
    if (search_path := handover.content["search_path"]) is not None:
        sys.path[0] = search_path
    return run_pytest(handover, arguments)


def run_pytest(handover: Handover, arguments: Sequence[str]) -> int:
    """Run pytest for a request in this process, and return its exit status."""
    sys.argv = ["pytest", *arguments]
    try:
        import pytest

        return int(pytest.main([*PLUGIN, *arguments], plugins=[handover]))
    except KeyboardInterrupt:  # Before pytest handles it.
        return INTERRUPTED


def execute(
    request: RunRequest,
    *,
    on_line: Callable[[str], None] | None = None,
    by: Callable[[Path, Sequence[str]], tuple[int, tuple[str, ...]]] | None = None,
) -> RunResult:
    """Run pytest for something other than a verdict: a plan, an export, or measurements for calibration.

    It writes no reports; see `run_inner` for the arguments.
    """
    from harness.base.records import read_json
    from harness.run.budget import Plan
    from harness.run.result import RunResult

    request = with_options_read(request).but(run_id=new_run_id())
    ended = run_inner(request, Launch.of(request), on_line=on_line, by=by)
    record = ended.record
    if record is None:
        status = (
            ended.status or NOT_JUDGED
        )  # A process that exits with 0 before its end has done nothing.
        return RunResult(
            status,
            request.reports_folder,
            None,
            status,
            ended.printed,
            refused=ended.without_record,
        )
    return RunResult(
        record.status,
        request.reports_folder,
        json.loads(record.report) if record.report else None,
        record.status,
        ended.printed,
        read_json(Plan, record.plan, where="a plan") if record.plan else None,
    )


def _captured(
    command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None] | None
) -> tuple[int, tuple[str, ...]]:
    """Run a command and return its exit status and the lines that it printed."""
    how: dict[str, Any] = {"env": environment}
    if on_line is None:
        run = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace", check=False, **how
        )
        return run.returncode, tuple((run.stdout + run.stderr).strip().splitlines())
    how |= {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "errors": "replace",
    }
    lines: list[str] = []
    with subprocess.Popen(command, **how) as child:  # noqa: S603  Our own command.
        for line in child.stdout or ():
            lines.append(line.rstrip("\n"))
            on_line(lines[-1])
    return child.returncode, tuple(lines)


def _in_terminal(
    command: Sequence[str], environment: Mapping[str, str], *, interrupted: Path
) -> tuple[int, signal.Signals | None]:
    """Run a command in this terminal; return its exit status and the signal that asked this process to end, if any.

    The file `interrupted` is there once the command ends because of Ctrl-C.
    """
    received: signal.Signals | None = None
    with subprocess.Popen(command, env=environment) as child:  # noqa: S603  Our own command.
        while child.returncode is None:
            try:
                child.wait()
            except KeyboardInterrupt:
                with suppress(KeyboardInterrupt):
                    _pass_on_interrupt(child, interrupted)
            except TerminatedError as error:
                received = error.signal
                child.send_signal(received)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=GRACE_SECONDS)
                child.kill()
    return child.returncode, received


def _pass_on_interrupt(child: subprocess.Popen[bytes], interrupted: Path) -> None:
    """Interrupt a child that Ctrl-C has not interrupted.

    A terminal interrupts all its processes, `kill -INT` this one alone. A second signal would end the child at once.
    """
    deadline = time.monotonic() + _SECONDS_TO_INTERRUPT
    while child.poll() is None and not interrupted.exists():
        if time.monotonic() > deadline:
            child.send_signal(signal.SIGINT)
            return
        time.sleep(0.05)
