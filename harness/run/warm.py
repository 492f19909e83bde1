"""Processes that have loaded PyTorch and the data once, for many runs of the gate: each run is a copy of one.

A copy (`os.fork`) begins as a process of its own would: no model meets what another has left behind, and one that
crashes ends alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.parent import end_with_parent
from harness.run.execute import execute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.execute import RunResult
    from harness.run.request import RunRequest

_MODULES = (
    *("harness.run.opening", "harness.run.golden", "harness.run.hypothesis_poses", "harness.run.selfcheck"),
    *("harness.checks.families", "harness.inference.attention", "harness.networks.checkpoints", "scipy.stats"),
)
"""What a run imports besides the plugin, which pytest must import itself."""
_CODE = "import sys; from harness.run.warm import serve; serve(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])"


class WarmProcess:
    """A process on one core, from its first run on; a lost one is started again. It ends with the thread that asks."""

    def __init__(self, core: int, tests: Path, options: Sequence[str]) -> None:
        self._about = [str(core), str(tests), *options]
        self._process: subprocess.Popen[str] | None = None

    def run(self, request: RunRequest) -> RunResult:
        """Run the gate in a copy of the process."""
        return execute(request, by=self.ask)

    def ask(self, path: Path, arguments: Sequence[str]) -> tuple[int, tuple[str, ...]]:
        """Return the exit status of pytest with these arguments, and what it printed; the request is in a file."""
        if self._process is None:
            command = [sys.executable, "-u", "-c", _CODE, str(os.getpid()), *self._about]
            how: dict[str, Any] = {"text": True, "env": {"PYTHONHASHSEED": "0", **os.environ}}
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how)  # noqa: S603
        process, said = self._process, ""
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([str(path), *arguments]) + "\n")
            process.stdin.flush()
            said = process.stdout.readline()
        if not said:  # The whole process was lost.
            self.close()
        printed = _printed(path)
        lines = printed.read_text(errors="replace").strip().splitlines() if printed.exists() else ()
        return int(said or process.wait()), tuple(lines)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with suppress(BrokenPipeError), self._process as process:  # As of what was never read.
                process.kill()
            self._process = None


def _printed(path: Path) -> Path:
    return path.with_name("printed.txt")


def serve(parent: int, core: int, tests: str, *options: str) -> None:
    """Load what every run needs, and run pytest in a copy of this process for each line of the input."""
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent ends this process.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    for name in _MODULES:
        import_module(name)
    from harness.run.opening import load_ahead

    load_ahead(options, Path(tests))
    process = os.getpid()
    while line := sys.stdin.readline():
        if (copy := os.fork()) == 0:
            path, *arguments = json.loads(line)
            _run(process, Path(path), arguments)
        _, status = os.waitpid(copy, 0)
        print(os.waitstatus_to_exitcode(status))


def _run(process: int, path: Path, arguments: list[str]) -> None:
    """Run pytest and end this process, whose input and output are its own."""
    import pytest

    from harness.run.handover import Handover

    end_with_parent(process)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(os.devnull).open() as nothing, _printed(path).open("w") as printed:
        os.dup2(nothing.fileno(), 0)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    sys.argv = ["pytest", *arguments]
    sys.exit(pytest.main(arguments, plugins=[Handover(path)]))
