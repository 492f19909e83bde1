"""Processes that have loaded PyTorch and the data once, for many runs of the gate.

Each run is a copy of one. A copy (`os.fork`) begins as a process of its own would: no model meets
what another has left behind, and one that crashes ends alone.
"""

from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor, wait
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.launcher import Child, ChildError
from harness.base.termination import end_with_parent
from harness.inference.devices import usable_cores
from harness.run.handover import Handover
from harness.run.inner import execute, run_pytest
from harness.run.opening import load_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.run.request import RunRequest
    from harness.run.result import RunResult

_PRINTED = "printed.txt"
_MODULES = (
    *("harness.run.opening", "harness.run.hypothesis_poses", "harness.run.self_checks"),
    *(
        "harness.checks.families",
        "harness.inference.attention",
        "harness.networks.checkpoints",
        "scipy.stats",
    ),
)
"""Imports of every run besides the plugins, such as Hypothesis, which pytest must import itself."""


class WarmProcess:
    """A process on one core, which starts with its first run, and again once it is lost.

    It ends with the thread that asks.
    """

    def __init__(self, core: int, options: Sequence[str]) -> None:
        self._core = core
        self._options = tuple(options)
        self._child = self._new_child()
        self._process: int | None = None
        self._is_closed = False

    def run(self, request: RunRequest) -> RunResult:
        """Run the gate in a copy of the process."""
        return execute(request, runner=self.ask)

    def ask(self, path: Path, arguments: Sequence[str]) -> tuple[int, tuple[str, ...]]:
        """Run pytest for the request in a file; return its exit status and what it printed."""
        printed = path.with_name(_PRINTED)
        lost: tuple[str, ...] = ()
        try:
            if self._process is None:
                warm = self._child.call(warm_up, os.getpid(), self._core, self._options)
                self._process = warm["process"]
            status = self._child.call_in_copy(
                run_in_copy, self._process, str(path), list(arguments)
            )
        except ChildError as error:
            status = getattr(error, "status", 1)
            lost = (f"the process of the run was lost: {error}",)
            self._start_again()
        lines: list[str] = []
        if printed.exists():
            lines = printed.read_text(errors="replace").strip().splitlines()
        return status, (*lines, *lost)

    def close(self) -> None:
        """End the process, and a run in it."""
        self._is_closed = True
        self._child.close()

    def _start_again(self) -> None:
        self._child.close()
        self._process = None
        if not self._is_closed:
            self._child = self._new_child()

    def _new_child(self) -> Child:
        # The working folder comes first, as for `python -c`.
        return Child(path=[""], forks=True)


class WarmProcesses:
    """A warm process for each core, for several rounds of runs with the same options."""

    def __init__(self, options: Sequence[str]) -> None:
        self._processes = [WarmProcess(core, options) for core in usable_cores()]
        # A process ends with the thread that has started it, so the threads of one round stay.
        self._threads = ThreadPoolExecutor(len(self._processes))

    def share(self, work: Callable[[WarmProcess], None], *, most: int) -> None:
        """Call `work` in a thread for each process, at most `most`.

        Raises the first error of a call when all have ended.
        """
        calls = [self._threads.submit(work, process) for process in self._processes[:most]]
        wait(calls)
        for call in calls:
            call.result()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()
        self._threads.shutdown()


def warm_up(parent: int, core: int, options: Sequence[str]) -> dict[str, Any]:
    """Load what every run needs; the process ends with the thread of `parent` that started it."""
    end_with_parent(parent)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    gc.disable()
    for name in _MODULES:
        import_module(name)
    load_ahead(options)
    gc.freeze()  # Copies share this memory, as long as no collection looks at it.
    gc.enable()
    return {"process": os.getpid()}


def run_in_copy(process: int, path: str, arguments: Sequence[str]) -> int:
    """Run pytest for a request in this copy of a warm `process`, and return its exit status.

    The output goes to a file beside the request.
    """
    end_with_parent(process)
    with Path(path).with_name(_PRINTED).open("w") as printed:
        for stream in (1, 2):
            os.dup2(printed.fileno(), stream)
    return run_pytest(Handover(Path(path)), arguments)
