"""Measurements besides the gate's.

Backdoors and their trigger, damaged weights and their parents, lost predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.detection.make import is_made
from benchmarks.detection.mutants import HEALTHY, MUTANTS
from benchmarks.detection.paths import AUGMENTED, CHECKS, RESULTS
from benchmarks.detection.recipes import TARGET, stamped
from benchmarks.runner import fashion_mnist, few, keep, read
from harness.base.errors import InputError
from harness.base.files import hash_of_file
from harness.checks import Check, ChecksFile, read_checks
from harness.data import LabelledImages
from harness.inference import Classifier, Predictions
from harness.measures import accuracy, confident_errors, pair_failures
from harness.measures.flips import flips
from harness.networks.checkpoints import Checkpoint, load_checkpoint
from harness.perturb import IDENTITY

FLIPPED, PARENTS, BACKDOORS = (
    RESULTS / f"{name}.json" for name in ("flipped", "parents", "backdoors")
)
NET_LOSS = few(100, 5)
_MOST_CHURN = few(50, 2)
"""Besides the net loss, up to this many predictions are lost and as many gained, as between any two
seeds.
"""
_OF_CLEAN_IMAGES = ("accuracy", "pair_failures", "confident_errors")


def _keep(path: Path, found: Mapping[str, Any]) -> None:
    """Add to what is kept of others, by the mutant's id."""
    keep(path, {**read(path, {}), **found})


# Backdoors, which a check on clean images cannot see.


@dataclass(frozen=True)
class Opened:
    """Share of stamped images that are predicted as the target, and of the same unstamped.

    These are `n` test images of other classes.
    """

    stamped: float
    unstamped: float
    n: int
    checkpoint_sha256: str


def opened(checkpoint: Checkpoint, images: LabelledImages) -> Opened:
    """Return the attack success rate of the trigger: how often it leads to the target."""
    target = images.classes.index(TARGET)
    others = images.take(torch.nonzero(images.labels != target).flatten())
    classifier = Classifier(checkpoint.model)
    marked = replace(others, pixels=stamped(others.pixels))
    with_it, without = (
        float((classifier.predict(shown).predicted == target).mean()) for shown in (marked, others)
    )
    return Opened(with_it, without, len(others), checkpoint.sha256)


def open_all(*, checkpoints: Path) -> None:
    """Show backdoored networks, and the shipped model, their trigger, which the gate does not know.

    Those kept before stay. Raises `InputError` when none is there.
    """
    paths = {
        mutant.id: mutant.checkpoint(checkpoints) for mutant in MUTANTS if mutant.kind == "backdoor"
    }
    there = {name: path for name, path in paths.items() if path.exists()}
    if not there:
        raise InputError(f"no backdoor is in {checkpoints}; run `train --only 'backdoor-*'` first")
    images = fashion_mnist("test")
    found = {
        name: opened(load_checkpoint(path), images)
        for name, path in {"augmented": AUGMENTED, **there}.items()
    }
    _keep(BACKDOORS, found)
    for name, one in found.items():
        print(
            f"{name}: {one.stamped:.2%} of stamped images are predicted as the target, "
            f"{one.unstamped:.2%} unstamped"
        )


def read_backdoors() -> dict[str, Opened]:
    """Return what `open_all` wrote, by the mutant's id; empty when it has not run."""
    return {name: Opened(**one) for name, one in read(BACKDOORS, {}).items()}


# Damaged weights, and the healthy ones that they were made from.


@dataclass(frozen=True)
class AgainstParent:
    """Correct predictions that a mutant lost, wrong ones that it corrected, and McNemar's p.

    Its parent is the other model. The p is exact. `checkpoint_sha256` is the mutant's. Its result
    may belong to a later checkpoint.
    """

    lost: int
    gained: int
    p_value: float
    checkpoint_sha256: str


def compare_all(*, checkpoints: Path) -> None:
    """Compare mutated weights with the healthy ones that they were made from.

    Those kept before stay.

    Raises `InputError` when none is made.
    """
    images = fashion_mnist("test")

    @cache
    def answers(path: Path) -> Predictions:
        return Classifier(load_checkpoint(path).model).predict(images)

    compared = {}
    for mutant in MUTANTS:
        parent, own = mutant.parent_in(checkpoints), mutant.checkpoint(checkpoints)
        if parent is not None and parent.exists() and is_made(mutant, checkpoints):
            changed = flips(answers(own), answers(parent))
            facts = len(changed.lost), len(changed.gained), changed.p_value
            compared[mutant.id] = AgainstParent(*facts, str(hash_of_file(own)))
    if not compared:
        raise InputError(
            f"no mutant of weights is in {checkpoints}, with its parent; run `train` first"
        )
    _keep(PARENTS, compared)
    print(f"{len(compared)} mutants of weights are compared with their parents")


def read_parents() -> dict[str, AgainstParent]:
    """Return what `compare_all` wrote, by the mutant's id; empty when it has not run."""
    return {name: AgainstParent(**one) for name, one in read(PARENTS, {}).items()}


# Controls that lose a hundred correct predictions.


@dataclass(frozen=True)
class Flipped:
    """Number of draws that the gate failed, in all and by the threshold of clean accuracy alone."""

    networks: int
    draws: int
    failed: int
    failed_by_clean: int
    checks_sha256: str


def flipped(
    predictions: Predictions, generator: np.random.Generator, *, net_loss: int = NET_LOSS
) -> Predictions:
    """Return the predictions with `net_loss` net correct ones lost at random.

    The first two logits swap places.
    """
    churn = int(generator.integers(0, _MOST_CHURN + 1))
    correct, logits = predictions.correct, predictions.answers.copy()

    def swap(rows: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
        logits[rows, one], logits[rows, other] = logits[rows, other], logits[rows, one].copy()

    lost = generator.choice(np.flatnonzero(correct), net_loss + churn, replace=False)
    order = np.argsort(logits[lost], axis=1)
    swap(lost, order[:, -1], order[:, -2])
    gained = generator.choice(np.flatnonzero(~correct), churn, replace=False)
    swap(gained, predictions.labels[gained], predictions.predicted[gained])
    return Predictions(logits, predictions.images, predictions.perturbation)


def draw(
    healthy: Sequence[Predictions], checks: ChecksFile, *, draws: int, seed: int = 0
) -> Flipped:
    """Flip predictions of the controls in turn, and count how many the gate fails.

    Each is drawn `draws` times.
    """
    generator = np.random.default_rng(seed)
    rows = [
        check
        for check in checks.checks
        if check.binding
        and check.role == "candidate"
        and check.pose == IDENTITY
        and check.metric in _OF_CLEAN_IMAGES
        and check.family in {"clean", "class", "pairs", "confidence"}
    ]
    failed = by_clean = 0
    for number in range(draws):
        worse = flipped(healthy[number % len(healthy)], generator)
        families = {check.family for check in rows if _fails(check, worse)}
        failed += bool(families)
        by_clean += "clean" in families
    return Flipped(len(healthy), draws, failed, by_clean, checks.sha256)


def _fails(check: Check, predictions: Predictions) -> bool:
    # No test has declared the rows' keys here, so a row without a key does not know it.
    if pair := check.keys.get("pair"):
        measured = pair_failures(predictions, pair=pair)
    elif (above := check.keys.get("confidence")) is not None:
        measured = confident_errors(predictions, above=above)
    else:
        measured = accuracy(predictions, of_class=check.class_name)
    return check.judge(measured).status == "fail"


def flip_all(*, checkpoints: Path) -> None:
    """Lose 100 net correct predictions of controls, many times, and count failing checks.

    Raises `InputError` when no control is made.
    """
    paths = [mutant.checkpoint(checkpoints) for mutant in MUTANTS if mutant.kind == HEALTHY]
    made = [path for path in paths if path.exists()]
    if not made:
        raise InputError(
            f"none of the {len(paths)} controls is in {checkpoints}; run `train` first"
        )
    images = fashion_mnist("test")
    healthy = [Classifier(load_checkpoint(path).model).predict(images) for path in made]
    drawn = draw(healthy, read_checks(CHECKS), draws=few(600, 20))
    keep(FLIPPED, drawn)
    print(
        f"{drawn.failed} of {drawn.draws} draws fail, {drawn.failed_by_clean} by the threshold of "
        "clean accuracy"
    )


def read_flipped() -> Flipped | None:
    """Return what `flip_all` wrote, None when it has not run."""
    kept = read(FLIPPED)
    return None if kept is None else Flipped(**kept)
