"""Make mutants, each in a process of its own.

Train one or damage its healthy parent, and note how it was made.

A killed run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from benchmarks.detection.jobs import Job, python, run_jobs, say
from benchmarks.detection.mutants import BY_ID, KINDS, Mutant
from benchmarks.detection.recipes import Recipe
from benchmarks.runner import keep, processor, read
from harness.base.errors import InputError
from harness.base.files import hash_of_file
from harness.data import LabelledImages
from harness.networks.checkpoints import load_checkpoint, save_checkpoint
from harness.networks.training import Epoch, TrainingConfig, train

DIVERGED = "diverged, no checkpoint"


def facts_path(mutant: Mutant, folder: Path) -> Path:
    """Return where the note on the making of a mutant is, or will be."""
    return folder / f"{mutant.id}.json"


def read_facts(mutant: Mutant, folder: Path) -> dict[str, Any]:
    """Return how the mutant was made, and under "outcome" whether its training diverged.

    Empty when unknown.
    """
    return dict(read(facts_path(mutant, folder), {}))


def is_made(mutant: Mutant, folder: Path) -> bool:
    """Return whether nothing is left to do.

    The training diverged, or there is a checkpoint of today's parent.
    """
    facts, parent = read_facts(mutant, folder), mutant.parent_in(folder)
    if facts.get("outcome") == DIVERGED:
        return True
    if not mutant.checkpoint(folder).exists():
        return False
    return (
        parent is None or not parent.exists() or facts.get("parent_sha256") == hash_of_file(parent)
    )


def make(
    mutant: Mutant,
    folder: Path,
    *,
    load_images: Callable[[], LabelledImages],
    shipped: TrainingConfig,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> None:
    """Make the mutant's checkpoint in `folder`, unless it is made.

    `shipped` is the recipe that is mutated. A file lock lets one process make a mutant while others
    wait. A queue that starts beside processes of an earlier one makes nothing twice. Raises
    `InputError` when the training images are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{mutant.id}.lock"):
        if is_made(mutant, folder):
            return
        if mutant.parent is None:
            _train(mutant, folder, load_images(), shipped, on_epoch)
        else:
            _damage(mutant, folder)


def _train(
    mutant: Mutant,
    folder: Path,
    images: LabelledImages,
    shipped: TrainingConfig,
    on_epoch: Callable[[Epoch], None] | None,
) -> None:
    mutate = KINDS[mutant.kind].training
    assert mutate is not None, f"{mutant.id} is no mutation of training"
    recipe = mutate(
        Recipe(replace(shipped, seed=mutant.seed), images), mutant.details.amount, mutant.seed
    )
    before, after = asdict(shipped), asdict(recipe.config)
    facts = {
        "config": {name: after[name] for name in after if after[name] != before[name]},
        "images": len(recipe.images),
        "data_sha256": recipe.images.sha256,
        # They decide the last bits of a training.
        "made_on": {"processor": processor(), "torch": version("torch")},
    }
    keep(facts_path(mutant, folder), facts)
    try:
        train(recipe.config, recipe.images, mutant.checkpoint(folder), on_epoch=on_epoch)
    except InputError as error:
        if "diverged" not in str(error):
            raise
        keep(facts_path(mutant, folder), {**facts, "outcome": DIVERGED, "message": str(error)})


def _damage(mutant: Mutant, folder: Path) -> None:
    parent, mutate = mutant.parent_in(folder), KINDS[mutant.kind].weights
    assert parent is not None, f"{mutant.id} has no parent"
    assert mutate is not None, f"{mutant.id} is no mutation of weights"
    healthy = load_checkpoint(parent)
    damaged = mutate(healthy, mutant.details.amount, torch.Generator().manual_seed(mutant.seed))
    assert damaged.record is not None, f"{parent}: a healthy checkpoint has a record"
    # If the process is killed in between, an old checkpoint must not pass as one of this parent.
    mutant.checkpoint(folder).unlink(missing_ok=True)
    keep(facts_path(mutant, folder), {"parent": mutant.parent, "parent_sha256": healthy.sha256})
    save_checkpoint(mutant.checkpoint(folder), damaged.model, damaged.record)


def make_all(
    mutants: Sequence[Mutant],
    folder: Path,
    *,
    side_by_side: int,
    measured: Callable[[Mutant], bool] = lambda _: False,
    command: Callable[[Mutant, Path], tuple[str, ...]] | None = None,
) -> bool:
    """Make the mutants that are not made yet, save those `measured` already.

    Returns whether none is left to make.

    A mutant of weights whose healthy parent is not there brings it along, measured or not.
    `command` makes one mutant (default: `make`).
    """
    wanted = with_parents([mutant for mutant in mutants if not measured(mutant)], folder)
    waiting = [mutant for mutant in wanted if not is_made(mutant, folder)]
    total, cost = len(waiting), sum(mutant.cost for mutant in waiting)
    say(
        f"{sum(map(measured, mutants))} of {len(mutants)} mutants are measured and need no "
        f"checkpoint. {len(wanted) - total} are made. {total} to go, the work of {cost:.1f} "
        "trainings"
    )

    def take() -> Job | None:
        mutant = next_mutant(waiting, folder)
        if mutant is None:
            return None
        waiting.remove(mutant)
        return Job(
            mutant.id,
            (command or _command)(mutant, folder),
            folder / f"{mutant.id}.log",
            mutant.cost,
        )

    def finish(job: Job, status: int) -> str:
        mutant = BY_ID[job.id]
        if status != 0 or not is_made(mutant, folder):
            return f"FAILED ({job.last_line}; {job.log})"
        return DIVERGED if read_facts(mutant, folder).get("outcome") == DIVERGED else "made"

    run_jobs(take, finish, total=total, cost=cost, side_by_side=side_by_side)
    for mutant in waiting:
        say(f"{mutant.id}: not made, since its parent {mutant.parent} is not; make that first")
    left = [mutant.id for mutant in wanted if not is_made(mutant, folder)]
    say(
        f"{len(wanted) - len(left)} of {len(wanted)} mutants are made"
        + (f"; not {', '.join(left)}" if left else "")
    )
    return not left


def with_parents(mutants: Sequence[Mutant], folder: Path) -> list[Mutant]:
    """Return the mutants, each after its control unless the folder has that."""
    wanted: dict[Mutant, None] = {}
    for mutant in mutants:
        parent = mutant.parent_in(folder)
        if (
            parent
            and not parent.exists()
            and mutant.parent in BY_ID
            and not is_made(mutant, folder)
        ):
            wanted[BY_ID[mutant.parent]] = None
        wanted[mutant] = None
    return list(wanted)


def next_mutant(waiting: Sequence[Mutant], folder: Path) -> Mutant | None:
    """Return the mutant to make next.

    Damaged weights as soon as their parent is there, then trainings in order.
    """
    parents = {mutant: mutant.parent_in(folder) for mutant in waiting}
    damaged = (
        mutant for mutant, parent in parents.items() if parent is not None and parent.exists()
    )
    trained = (mutant for mutant, parent in parents.items() if parent is None)
    return next(damaged, None) or next(trained, None)


def _command(mutant: Mutant, folder: Path) -> tuple[str, ...]:
    return python("-m", "benchmarks.detection", "make", mutant.id, "--checkpoints", str(folder))
