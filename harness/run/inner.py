"""The inner process of a run: pytest with the request of the outer process.

No other module starts pytest. This one needs neither PyTorch nor NumPy.
"""

from __future__ import annotations

import codecs
import io
import json
import locale
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base import imports
from harness.base.codes import Code
from harness.base.termination import GRACE_SECONDS, TerminatedError, end_with_parent, ended_by
from harness.run.handover import Handover, new_run_id
from harness.run.request import command_line, with_options_read
from harness.run.status import INTERRUPTED, NOT_JUDGED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.run.handover import RunRecord
    from harness.run.request import RunRequest
    from harness.run.result import RunResult

PLUGIN = ("-p", "harness.plugin")
"""Options of pytest that load the gate's plugin, also where pytest loads none by itself."""
Runner = Callable[[Path, Sequence[str]], tuple[int, tuple[str, ...]]]
"""Runs pytest for the request in a file, with these arguments; returns exit status and lines."""
_CODE = "import sys\nfrom harness.run.inner import main\nsys.exit(main(*sys.argv[1:]))"
_SECONDS_TO_INTERRUPT = 1.0
"""Seconds after which a process has noticed Ctrl-C, if it was interrupted by the terminal."""
_SECONDS_BETWEEN_LOOKS = 0.1
"""Seconds between two looks at a silent process, which may have ended."""
_PIPE_BYTES = 1 << 20
"""Most bytes that a pipe holds on Linux, unless an administrator allows more."""
_TAIL = 15
"""Last lines of its output that the result of a run keeps."""


@dataclass(frozen=True)
class Launch:
    """Start of the inner process of a run.

    `arguments` are those of its pytest. `command` is the command line for people, for the reports.
    `search_path` is the first entry of `sys.path`; None for the working folder, as Python has it
    for code on its command line.
    """

    arguments: tuple[str, ...]
    command: tuple[str, ...]
    search_path: str | None = None

    @staticmethod
    def of(request: RunRequest) -> Launch:
        """Return the launch of a request whose options are read; its settings travel as JSON."""
        return Launch((*request.tests, *request.options), ("pytest", *command_line(request)))


@dataclass(frozen=True)
class InnerEnd:
    """End of the inner process of a run: with a record, or without one.

    `status` is its exit status, and `printed` are the last lines of its output, empty where they
    went to the terminal. `ended_by` is the signal that ended the run, if it came to the outer
    process.
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
            return (
                f"[{Code.INTERRUPTED}] the run was interrupted and came to no verdict; run the "
                "gate again"
            )
        end = f"exit status {self.status}"
        if self.status < 0:
            end = f"the signal {_name_of_signal(-self.status)}"
        return (
            f"[{Code.CRASH}] the gate ended with {end} and without a verdict: it crashed, or the "
            "model or a test ended it; nothing was judged"
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
    in_terminal: bool = False,
    on_line: Callable[[str], None] | None = None,
    runner: Runner | None = None,
) -> InnerEnd:
    """Run pytest in an inner process and return how that ended; it ends with this process.

    Args:
        request: what the run is asked for, with the id of the run.
        launch: the start of the process.
        in_terminal: the output goes to the terminal. The process handles Ctrl-C itself, and
            signals that ask this process to end go to it, too; after 10 s it is killed.
        on_line: takes each line of output that does not go to the terminal.
        runner: runs pytest in place of a new process.
    """
    received: signal.Signals | None = None
    printed: tuple[str, ...] = ()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        handover = hand_over(request, launch, Path(folder, "request.json"))
        command = _command(handover, launch)
        environment = {"PYTHONHASHSEED": "0", **os.environ}  # The same in each run.

        if runner is not None:
            status, printed = runner(handover.path, launch.arguments)
        elif in_terminal:
            interrupted = handover.interrupted
            status, received = _in_terminal(command, environment, interrupted=interrupted)
        else:
            status, printed = _captured(command, environment, on_line)
        record = handover.record()

    if record is not None:
        imports.include(record.code)
    return InnerEnd(status, printed[-_TAIL:], record, received)


def _command(handover: Handover, launch: Launch) -> list[str]:
    """Return the command of an inner process, by the interpreter of this one and its options."""
    interpreter = [sys.executable, *_interpreter_options(), "-u", "-c", _CODE]
    return [*interpreter, str(os.getpid()), str(handover.path), *launch.arguments]


def _interpreter_options() -> list[str]:
    """Return the options -O, -W and -X of this interpreter, which its environment may have set."""
    options = ["-O" for _ in range(sys.flags.optimize)]
    options += [f"-W{warning_filter}" for warning_filter in sys.warnoptions]
    for name, value in sys._xoptions.items():  # Documented, in spite of its name.
        if value is True:
            options.append(f"-X{name}")
        else:
            options.append(f"-X{name}={value}")
    return options


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
    search_path = handover.content["search_path"]
    if search_path is not None:
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
    runner: Runner | None = None,
) -> RunResult:
    """Run pytest for something other than a verdict: a plan, an export, or measurements.

    It writes no reports; see `run_inner` for the arguments.
    """
    from harness.base.records import read_json
    from harness.run.budget import Plan
    from harness.run.result import RunResult

    request = with_options_read(request).but(run_id=new_run_id())
    end = run_inner(request, Launch.of(request), on_line=on_line, runner=runner)
    reports = request.reports_folder
    record = end.record

    if record is None:
        # A process that exits with 0 before its end has done nothing.
        status = end.status or NOT_JUDGED
        return RunResult(
            status, reports, status=status, printed=end.printed, refused=end.without_record
        )

    report = json.loads(record.report) if record.report else None
    plan = read_json(Plan, record.plan, where="a plan") if record.plan else None
    return RunResult(
        record.status, reports, report, status=record.status, printed=end.printed, plan=plan
    )


def _captured(
    command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[str], None] | None
) -> tuple[int, tuple[str, ...]]:
    """Run a command and return its exit status and the lines that it printed."""
    lines: list[str] = []
    with subprocess.Popen(  # noqa: S603  Our own command.
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        try:
            for line in _lines(_output(child)):
                lines.append(line)
                if on_line is not None:
                    on_line(line)
        except BaseException:
            child.kill()  # It would go on unseen.
            raise
    return child.returncode, tuple(lines)


def _output(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield what a child prints, until it has ended.

    The end of the pipe may come much later, because processes that the child has started hold the
    pipe, too.
    """
    assert child.stdout is not None
    pipe = child.stdout.fileno()
    # After the child's end, the pipe holds at most these bytes of it; more are of other processes.
    bytes_left = _PIPE_BYTES
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while bytes_left > 0:
            # In this order: once the child has ended, all that it wrote is in the pipe.
            has_ended = child.poll() is not None
            is_readable = selector.select(timeout=0 if has_ended else _SECONDS_BETWEEN_LOOKS)
            if not is_readable:
                if has_ended:
                    return
                continue

            content = os.read(pipe, io.DEFAULT_BUFFER_SIZE)
            if not content:
                return
            if has_ended:
                bytes_left -= len(content)
            yield content


def _lines(output: Iterator[bytes]) -> Iterator[str]:
    """Yield each line of output at once, without its end."""
    to_text = codecs.getincrementaldecoder(locale.getencoding())(errors="replace")
    decoder = io.IncrementalNewlineDecoder(to_text, translate=True)
    line = ""
    for content in output:
        *lines, line = f"{line}{decoder.decode(content)}".split("\n")
        yield from lines

    line += decoder.decode(b"", final=True)
    if line:
        yield line


def _in_terminal(
    command: Sequence[str], environment: Mapping[str, str], *, interrupted: Path
) -> tuple[int, signal.Signals | None]:
    """Run a command in this terminal.

    The file `interrupted` is there once the command ends because of Ctrl-C.

    Returns:
        The exit status, and the signal that asked this process to end, if any.
    """
    received: signal.Signals | None = None
    # Not as a context manager: if a signal comes before the loop, its exit would wait for a child
    # that nobody has told to end. Now the exception ends this process, and the child with it.
    child = subprocess.Popen(command, env=environment)  # noqa: S603  Our own command.
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

    A terminal interrupts all its processes, `kill -INT` this one alone. A second signal would end
    the child at once.
    """
    deadline = time.monotonic() + _SECONDS_TO_INTERRUPT
    while child.poll() is None and not interrupted.exists():
        if time.monotonic() > deadline:
            child.send_signal(signal.SIGINT)
            return
        time.sleep(0.05)
