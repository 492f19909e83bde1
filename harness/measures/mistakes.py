"""Wrong answers in order: the most confident first, and the classes that are taken for each other most often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.inference import Predictions


def most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, (N,) bool and wrong answers all, by falling confidence, (M,) int64."""
    positions = np.flatnonzero(failures)
    return np.asarray(positions[np.argsort(-predictions.confidence_of_errors()[positions], kind="stable")])


def likely_most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, (N,) bool, by falling confidence as it was answered first, (M,) int64.

    Which may be in less than float32: it decides which are shown first, and costs no pass.
    """
    positions = np.flatnonzero(failures)
    return np.asarray(positions[np.argsort(-predictions.confidence_as_answered[positions], kind="stable")])


def confusion_matrix(predictions: Predictions, among: np.ndarray | None = None) -> np.ndarray:
    """Return how many images of each class (rows) are taken for each (columns), (classes, classes) int64.

    Of all images, or of those `among` them, (N,) bool.
    """
    count = len(predictions.classes)
    pairs = predictions.labels * count + predictions.predicted
    counts = np.bincount(pairs if among is None else pairs[among], minlength=count * count)
    return np.asarray(counts.reshape(count, count))


def confused_pairs(predictions: Predictions, *, most: int = 3) -> list[tuple[str, str]]:
    """Return the pairs of classes that are taken for each other most often, either way, at least once.

    Of pairs confused as often, that of the classes named first comes first.
    """
    confusions, classes = confusion_matrix(predictions), predictions.classes
    either_way = np.triu(confusions + confusions.T, k=1)
    order = np.argsort(-either_way, axis=None, kind="stable")[:most]
    numbers = [divmod(int(at), len(classes)) for at in order if either_way.flat[at] > 0]
    return [(classes[first], classes[second]) for first, second in numbers]
