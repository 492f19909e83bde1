"""Make one mutant: train it or damage its healthy parent, and note down how it was made."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from benchmarks.detection.machine import machine
from benchmarks.detection.mutants import KINDS, Mutant
from benchmarks.detection.paths import AUGMENTED, sha256_of
from harness.base.errors import InputError
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.networks.training import Epoch, TrainingConfig

DIVERGED = "diverged, no checkpoint"


def checkpoint_path(mutant: Mutant, folder: Path) -> Path:
    """Return where the mutant's checkpoint is, or will be."""
    return folder / f"{mutant.id}.safetensors"


def parent_path(mutant: Mutant, folder: Path) -> Path | None:
    """Return where the healthy parent of a mutation of weights is, or will be; None for a training."""
    if mutant.parent is None:
        return None
    return AUGMENTED if mutant.parent == "augmented" else folder / f"{mutant.parent}.safetensors"


def read_facts(mutant: Mutant, folder: Path) -> dict[str, Any]:
    """Return how the mutant was made, and under "outcome" whether its training diverged; empty when unknown."""
    try:
        facts: dict[str, Any] = json.loads(_facts_path(mutant, folder).read_bytes())
    except FileNotFoundError:
        return {}
    return facts


def is_made(mutant: Mutant, folder: Path) -> bool:
    """Return whether nothing is left to do: the training diverged, or there is a checkpoint of today's parent."""
    facts = read_facts(mutant, folder)
    if facts.get("outcome") == DIVERGED:
        return True
    if not checkpoint_path(mutant, folder).exists():
        return False
    parent = parent_path(mutant, folder)
    return parent is None or not parent.exists() or facts.get("parent_sha256") == sha256_of(parent)


def make(
    mutant: Mutant,
    folder: Path,
    *,
    load_images: Callable[[], LabelledImages],
    shipped: TrainingConfig,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> None:
    """Make the mutant's checkpoint in `folder`, unless it is made; `shipped` is the recipe that is mutated.

    A file lock lets one process make a mutant while others wait. A queue that starts beside processes of an earlier one
    makes nothing twice. Raises `InputError` when the training images are missing.
    """
    from filelock import FileLock

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
    from benchmarks.detection.recipes import Recipe
    from harness.networks.training import train

    mutate = KINDS[mutant.kind].training
    assert mutate is not None, f"{mutant.id} is no mutation of training"
    recipe = mutate(Recipe(replace(shipped, seed=mutant.seed), images), mutant.details.amount, mutant.seed)
    before, after = asdict(shipped), asdict(recipe.config)
    facts = {
        "config": {name: after[name] for name in after if after[name] != before[name]},
        "images": len(recipe.images),
        "data_sha256": recipe.images.sha256,
        "made_on": machine(),
    }
    _write_facts(mutant, folder, facts)
    try:
        train(recipe.config, recipe.images, checkpoint_path(mutant, folder), on_epoch=on_epoch)
    except InputError as error:
        if "diverged" not in str(error):
            raise
        _write_facts(mutant, folder, {**facts, "outcome": DIVERGED, "message": str(error)})


def _damage(mutant: Mutant, folder: Path) -> None:
    import torch

    from harness.networks.checkpoints import load_checkpoint, save_checkpoint

    parent, mutate = parent_path(mutant, folder), KINDS[mutant.kind].weights
    assert parent is not None, f"{mutant.id} is no mutation of weights"
    assert mutate is not None, f"{mutant.id} is no mutation of weights"
    healthy = load_checkpoint(parent)
    damaged = mutate(healthy, mutant.details.amount, torch.Generator().manual_seed(mutant.seed))
    assert damaged.record is not None, f"{parent}: a healthy checkpoint has a record"
    # If the process is killed in between, an old checkpoint must not pass as one of this parent.
    checkpoint_path(mutant, folder).unlink(missing_ok=True)
    _write_facts(mutant, folder, {"parent": mutant.parent, "parent_sha256": healthy.sha256})
    save_checkpoint(checkpoint_path(mutant, folder), damaged.model, damaged.record)


def _facts_path(mutant: Mutant, folder: Path) -> Path:
    return folder / f"{mutant.id}.json"


def _write_facts(mutant: Mutant, folder: Path, facts: dict[str, Any]) -> None:
    write_atomically(_facts_path(mutant, folder), (json.dumps(facts, indent=1) + "\n").encode())
