"""Run processes side by side, one line of progress with an estimate per finished one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.detection.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Job:
    """A command to run from the root of the repository; its output goes to `log`.

    `cost` is its work in any unit, 0 for next to none; estimates come from it.
    """

    id: str
    command: tuple[str, ...]
    log: Path
    cost: float = 1.0


@dataclass(frozen=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    started: float


def run_jobs(
    take: Callable[[], Job | None],
    *,
    total: int,
    cost: float,
    side_by_side: int,
    finish: Callable[[Job, int], str],
    say: Callable[[str], None],
) -> None:
    """Run jobs until `take` gives none and none runs; `total` and `cost` are of all jobs together.

    `take` returns the next job that may start now; `finish` gets each ended job with its exit status and returns what
    became of it. Whatever ends this function early ends the processes too.
    """
    running: list[_Running] = []
    durations: list[tuple[float, float]] = []
    done, left = 0, cost
    try:
        while True:
            while len(running) < side_by_side and (job := take()) is not None:
                running.append(_start(job))
            if not running:
                return
            ended = [entry for entry in running if entry.process.poll() is not None]
            if not ended:
                time.sleep(_POLL_SECONDS)
            for entry in ended:
                running.remove(entry)
                seconds = time.monotonic() - entry.started
                outcome = finish(entry.job, entry.process.returncode)
                done, left = done + 1, left - entry.job.cost
                if entry.process.returncode == 0 or entry.job.cost == 0:
                    durations.append((entry.job.cost, seconds))
                progress = [(other.job.cost, time.monotonic() - other.started) for other in running]
                estimate = seconds_left(durations, progress, cost=left, side_by_side=side_by_side)
                about = "" if estimate is None or done == total else f", about {spelled(estimate)}"
                say(f"[{done}/{total}] {entry.job.id}: {outcome} in {spelled(seconds)}; {total - done} to go{about}")
    finally:
        for entry in running:
            entry.process.terminate()
        for entry in running:
            try:
                entry.process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                entry.process.kill()


def seconds_left(
    durations: Sequence[tuple[float, float]],
    running: Sequence[tuple[float, float]],
    *,
    cost: float,
    side_by_side: int,
) -> float | None:
    """Estimate the seconds until work of `cost` is done, with `running` under way; None if unknown.

    `durations` are (cost, seconds) of finished jobs, `running` (cost, seconds so far) of those that run.
    """
    spent = [(work, seconds) for work, seconds in durations if work > 0]
    if not spent:
        return None
    pace = sum(seconds for _, seconds in spent) / sum(work for work, _ in spent)
    ahead = sum(min(seconds, work * pace) for work, seconds in running)
    return max(cost * pace - ahead, 0.0) / side_by_side


def spelled(seconds: float) -> str:
    """Return a duration as text: `42 s`, `5 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "it said nothing"


def _start(job: Job) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  The command is ours.
            job.command,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return _Running(job, process, time.monotonic())


def say(line: str) -> None:
    """Print a line at once, also into a file."""
    print(line, flush=True)


def python(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs this interpreter."""
    return (sys.executable, *arguments)
