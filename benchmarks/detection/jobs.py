"""Run processes side by side, one line of progress with an estimate per finished one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.runner import ROOT

_POLL_SECONDS, _PATIENCE_SECONDS = 0.5, 10


@dataclass(frozen=True, eq=False)
class Job:
    """A command to run from the root of the repository; its output goes to `log`.

    `cost` is its work in any unit, 0 for next to none; estimates come from it.
    """

    id: str
    command: tuple[str, ...]
    log: Path
    cost: float = 1.0
    started: float = field(default_factory=time.monotonic)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603  The command is ours.
                self.command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def last_line(self) -> str:
        """Return the last line of its output."""
        lines = (
            self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        )
        return lines[-1] if lines else "it said nothing"


def run_jobs(
    take: Callable[[], Job | None],
    finish: Callable[[Job, int], str],
    *,
    total: int,
    cost: float,
    side_by_side: int,
) -> None:
    """Run jobs until `take` gives none and none runs; `total` and `cost` are of all jobs together.

    `take` returns the next job that may start now; `finish` gets each ended job with its exit
    status and returns what became of it. Whatever ends this function early ends the processes too.
    """
    running: dict[Job, subprocess.Popen[bytes]] = {}
    done, left, worked, spent = 0, cost, 0.0, 0.0
    try:
        while True:
            while len(running) < side_by_side and (job := take()) is not None:
                running[job] = job.start()
            if not running:
                return
            ended = [job for job, process in running.items() if process.poll() is not None]
            if not ended:
                time.sleep(_POLL_SECONDS)
            for job in ended:
                status, seconds = running.pop(job).returncode, time.monotonic() - job.started
                outcome = finish(job, status)
                done, left = done + 1, left - job.cost
                if status == 0:
                    worked, spent = worked + job.cost, spent + seconds
                about = (
                    f", about {spelled(left * spent / worked / side_by_side)}"
                    if worked and done < total
                    else ""
                )
                say(
                    f"[{done}/{total}] {job.id}: {outcome} in {spelled(seconds)}; {total - done} "
                    f"to go{about}"
                )
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def spelled(seconds: float) -> str:
    """Return a duration as text: `42 s`, `5 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def say(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this interpreter."""
    return (sys.executable, *arguments)
