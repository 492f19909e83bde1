"""Processes that have loaded PyTorch and the data once, for many runs of the gate: each run is a copy of one.

A copy (`os.fork`) begins as a process of its own would: no model meets what another has left behind, and one that
crashes ends alone.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.termination import end_with_parent
from harness.inference.devices import usable_cores
from harness.run.inner import execute
from harness.run.opening import load_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.run.request import RunRequest
    from harness.run.result import RunResult

_PRINTED = "printed.txt"
_MODULES = (
    *("harness.run.opening", "harness.run.hypothesis_poses", "harness.run.selfcheck"),
    *(
        "harness.checks.families",
        "harness.inference.attention",
        "harness.networks.checkpoints",
        "scipy.stats",
    ),
)
"""Imports of every run besides the plugins, such as Hypothesis, which pytest must import itself."""
_CODE = """\
import gc, sys
gc.disable()
from harness.calibration.warm import copies
from harness.run.handover import Handover
from harness.run.inner import run_pytest
path, arguments = copies(*sys.argv[1:])
sys.exit(run_pytest(Handover(path), arguments))
"""
"""The code of a process: copies of it run pytest.

Garbage collections during its imports find next to nothing, and take a tenth of their time or more.
"""


class WarmProcess:
    """A process on one core, from its first run on; a lost one is started again. It ends with the thread that asks."""

    def __init__(self, core: int, options: Sequence[str]) -> None:
        self._about = [str(core), *options]
        self._process: Any = None

    def run(self, request: RunRequest) -> RunResult:
        """Run the gate in a copy of the process."""
        return execute(request, runner=self.ask)

    def ask(self, path: Path, arguments: Sequence[str]) -> tuple[int, tuple[str, ...]]:
        """Return the exit status of pytest with these arguments, and what it printed; the request is in a file."""
        if self._process is None:
            command = [sys.executable, "-u", "-c", _CODE, str(os.getpid()), *self._about]
            self._process = subprocess.Popen(  # noqa: S603
                command,
                env={"PYTHONHASHSEED": "0", **os.environ},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        process, said = self._process, ""
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([str(path), *arguments]) + "\n")
            process.stdin.flush()
            said = process.stdout.readline()
        if not said:  # The whole process was lost.
            self.close()
        printed = path.with_name(_PRINTED)
        lines = printed.read_text(errors="replace").strip().splitlines() if printed.exists() else ()
        return int(said or process.wait()), tuple(lines)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(BrokenPipeError), self._process as process:  # As of what was never read.
                process.kill()
            self._process = None


class WarmProcesses:
    """A warm process for each core, for several rounds of runs with the same options; each starts when it is needed."""

    def __init__(self, options: Sequence[str]) -> None:
        self._processes = [WarmProcess(core, options) for core in usable_cores()]
        # A process ends with the thread that has started it, so the threads of one round stay for the next.
        self._threads = ThreadPoolExecutor(len(self._processes))

    def share(self, work: Callable[[WarmProcess], None], *, most: int) -> None:
        """Call `work` in a thread for each process, at most `most`; raise its first error when all calls have ended."""
        calls = [self._threads.submit(work, process) for process in self._processes[:most]]
        wait(calls)
        for call in calls:
            call.result()

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown()
        for process in self._processes:
            process.close()


def copies(parent: str, core: str, *options: str) -> tuple[Path, list[str]]:
    """Load what every run needs, and return in a copy of this process the request and pytest's command line of a run.

    Each line of the input asks for one. The copy's input is empty, and its output a file beside the request.
    """
    end_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends this process.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # The data may be loaded by code that prints.
    for name in _MODULES:
        import_module(name)
    load_ahead(options)
    gc.freeze()  # Copies share this memory, as long as no collection looks at it.
    gc.enable()
    process = os.getpid()
    while line := sys.stdin.readline():
        if copy := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]), file=answers)
            continue
        answers.close()
        end_with_parent(process)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        path, *arguments = json.loads(line)
        with (
            Path(os.devnull).open() as nothing,
            Path(path).with_name(_PRINTED).open("w") as printed,
        ):
            for file, number in ((nothing, 0), (printed, 1), (printed, 2)):
                os.dup2(file.fileno(), number)
        return Path(path), arguments
    sys.exit()
