"""Mutated weights against the sound ones that they were made from: predictions lost on clean images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.detection.make import checkpoint_path, is_made, parent_path
from benchmarks.detection.paths import sha256_of
from benchmarks.smoke import fashion_mnist
from harness.base.errors import InputError
from harness.base.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.detection.mutants import Mutant
    from harness.inference import Predictions


@dataclass(frozen=True)
class AgainstParent:
    """Correct predictions of its parent that a mutant lost, wrong ones that it corrected, and exact McNemar's p.

    `checkpoint_sha256` is the mutant's. Its result may belong to a later checkpoint.
    """

    lost: int
    gained: int
    p_value: float
    checkpoint_sha256: str


def compare_all(mutants: Sequence[Mutant], folder: Path, result: Path) -> dict[str, AgainstParent]:
    """Compare all mutants of weights that are made with their parents, and write it as JSON, by id; others stay.

    Raises `InputError` when none is made.
    """
    from harness.inference import Classifier
    from harness.measures.flips import flips
    from harness.networks.checkpoints import load_checkpoint

    images = fashion_mnist("test")

    @cache
    def answers(path: Path) -> Predictions:
        return Classifier(load_checkpoint(path).model).predict(images)

    compared = {}
    for mutant in mutants:
        parent = parent_path(mutant, folder)
        if parent is not None and parent.exists() and is_made(mutant, folder):
            changed = flips(answers(checkpoint_path(mutant, folder)), answers(parent))
            sha256 = sha256_of(checkpoint_path(mutant, folder))
            compared[mutant.id] = AgainstParent(len(changed.lost), len(changed.gained), changed.p_value, sha256)
    if not compared:
        raise InputError(f"no mutant of weights is in {folder}, with its parent; run `train` first")
    content = {name: asdict(changes) for name, changes in {**read_parents(result), **compared}.items()}
    write_atomically(result, (json.dumps(content, indent=1) + "\n").encode())
    return compared


def read_parents(path: Path) -> Mapping[str, AgainstParent]:
    """Return what `compare_all` wrote, by the mutant's id; empty when it has not run."""
    if not path.exists():
        return {}
    return {name: AgainstParent(**changes) for name, changes in json.loads(path.read_bytes()).items()}
