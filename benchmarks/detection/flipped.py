"""Controls that lose a hundred correct predictions, and the share that the gate fails on clean images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.detection.mutants import HEALTHY, Mutant
from benchmarks.detection.paths import CHECKS
from benchmarks.smoke import fashion_mnist, few
from harness.base.errors import InputError
from harness.base.files import write_atomically
from harness.inference import Predictions
from harness.measures import accuracy, confident_errors, pair_failures
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.checks import Check, ChecksFile
    from harness.measures import Measurement

NET_LOSS = few(100, 5)
_OF_CLEAN_IMAGES = ("accuracy", "pair_failures", "confident_errors")
_MOST_CHURN = few(50, 2)
"""Besides the net loss, up to this many predictions are lost and as many gained, as between any two seeds."""


@dataclass(frozen=True)
class Flipped:
    """Number of draws that the gate failed, in all and by the threshold of clean accuracy alone."""

    networks: int
    draws: int
    failed: int
    failed_by_clean: int
    checks_sha256: str


def flipped(predictions: Predictions, generator: np.random.Generator, *, net_loss: int = NET_LOSS) -> Predictions:
    """Return the predictions, with `net_loss` net correct ones lost at random: the first two logits swap places."""
    churn = int(generator.integers(0, _MOST_CHURN + 1))
    correct, logits = predictions.correct, predictions.answers.copy()
    lost = generator.choice(np.flatnonzero(correct), net_loss + churn, replace=False)
    order = np.argsort(logits[lost], axis=1)
    first, second = order[:, -1], order[:, -2]
    logits[lost, first], logits[lost, second] = logits[lost, second], logits[lost, first].copy()
    gained = generator.choice(np.flatnonzero(~correct), churn, replace=False)
    labels, predicted = predictions.labels[gained], predictions.predicted[gained]
    logits[gained, labels], logits[gained, predicted] = logits[gained, predicted], logits[gained, labels].copy()
    return Predictions(logits, predictions.images, predictions.perturbation)


def fails(check: Check, predictions: Predictions) -> bool:
    """Return whether a check on clean images fails the predictions."""
    return check.judge(_measure(check, predictions)).status == "fail"


def draw(healthy: Sequence[Predictions], checks: ChecksFile, *, draws: int, seed: int = 0) -> Flipped:
    """Flip predictions of the controls in turn, `draws` times, and count how many the gate fails."""
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
        families = {check.family for check in rows if fails(check, worse)}
        failed += bool(families)
        by_clean += "clean" in families
    return Flipped(len(healthy), draws, failed, by_clean, checks.sha256)


def flip_all(mutants: Sequence[Mutant], folder: Path, result: Path, *, draws: int = few(600, 20)) -> Flipped:
    """Draw from all controls that are made, and write the result as JSON; raises `InputError` without any."""
    from benchmarks.detection.make import checkpoint_path
    from harness.checks import read_checks
    from harness.inference import Classifier
    from harness.networks.checkpoints import load_checkpoint

    paths = [checkpoint_path(mutant, folder) for mutant in mutants if mutant.kind == HEALTHY]
    made = [path for path in paths if path.exists()]
    if not made:
        raise InputError(f"none of the {len(paths)} controls is in {folder}; run `train` first")
    images = fashion_mnist("test")
    healthy = [Classifier(load_checkpoint(path).model).predict(images) for path in made]
    drawn = draw(healthy, read_checks(CHECKS), draws=draws)
    write_atomically(result, (json.dumps(asdict(drawn), indent=1) + "\n").encode())
    return drawn


def read_flipped(path: Path) -> Flipped | None:
    """Return what `flip_all` wrote, None when it has not run."""
    return Flipped(**json.loads(path.read_bytes())) if path.exists() else None


def _measure(check: Check, predictions: Predictions) -> Measurement:
    # No test has declared the rows' keys here, so a row without a key does not know it.
    if pair := check.keys.get("pair"):
        return pair_failures(predictions, pair=pair)
    if (above := check.keys.get("confidence")) is not None:
        return confident_errors(predictions, above=above)
    return accuracy(predictions, of_class=check.class_name)
