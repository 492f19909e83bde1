"""Make the mutants that are still to be measured, each in a process of its own; a killed run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.detection.jobs import Job, last_line, python, run_jobs, say
from benchmarks.detection.make import DIVERGED, is_made, parent_path, read_facts
from benchmarks.detection.mutants import IDS, Mutant, mutant_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def train_all(
    mutants: Sequence[Mutant],
    folder: Path,
    *,
    side_by_side: int,
    measured: Callable[[Mutant], bool] = lambda _: False,
    command: Callable[[Mutant, Path], tuple[str, ...]] | None = None,
) -> bool:
    """Make the mutants that are not made yet, save those `measured` already; returns whether none is left to make.

    A mutant of weights whose healthy parent is not there brings it along, measured or not. `command` makes one mutant
    (default: `make`).
    """
    wanted = with_parents([mutant for mutant in mutants if not measured(mutant)], folder)
    waiting = [mutant for mutant in wanted if not is_made(mutant, folder)]
    total, cost = len(waiting), sum(mutant.cost for mutant in waiting)
    needless = sum(map(measured, mutants))
    say(
        f"{needless} of {len(mutants)} mutants are measured and need no checkpoint. {len(wanted) - total} are made. "
        f"{total} to go, the work of {cost:.1f} trainings"
    )

    def take() -> Job | None:
        mutant = next_mutant(waiting, folder)
        if mutant is None:
            return None
        waiting.remove(mutant)
        return Job(mutant.id, (command or _command)(mutant, folder), folder / f"{mutant.id}.log", mutant.cost)

    def finish(job: Job, status: int) -> str:
        mutant = mutant_of(job.id)
        if status != 0 or not is_made(mutant, folder):
            return f"FAILED ({last_line(job.log)}; {job.log})"
        return DIVERGED if read_facts(mutant, folder).get("outcome") == DIVERGED else "made"

    run_jobs(take, total=total, cost=cost, side_by_side=side_by_side, finish=finish, say=say)
    for mutant in waiting:
        say(f"{mutant.id}: not made, since its parent {mutant.parent} is not; make that first")
    left = [mutant.id for mutant in wanted if not is_made(mutant, folder)]
    say(f"{len(wanted) - len(left)} of {len(wanted)} mutants are made" + (f"; not {', '.join(left)}" if left else ""))
    return not left


def with_parents(mutants: Sequence[Mutant], folder: Path) -> list[Mutant]:
    """Return the mutants, each after the control that it is made from unless the folder has that."""
    wanted: dict[Mutant, None] = {}
    for mutant in mutants:
        parent = parent_path(mutant, folder)
        if parent and not parent.exists() and mutant.parent in IDS and not is_made(mutant, folder):
            wanted[mutant_of(mutant.parent)] = None
        wanted[mutant] = None
    return list(wanted)


def next_mutant(waiting: Sequence[Mutant], folder: Path) -> Mutant | None:
    """Return the mutant to make next: damaged weights as soon as their parent is there, then trainings in order."""
    parents = {mutant: parent_path(mutant, folder) for mutant in waiting}
    damaged = (mutant for mutant, parent in parents.items() if parent is not None and parent.exists())
    trained = (mutant for mutant, parent in parents.items() if parent is None)
    return next(damaged, None) or next(trained, None)


def _command(mutant: Mutant, folder: Path) -> tuple[str, ...]:
    return python("-m", "benchmarks.detection", "make", mutant.id, "--checkpoints", str(folder))
