"""Precision, recall and F1 of every class, None if undefined, and confusion matrices."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.inference import Predictions


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 of a class, in [0, 1], or an average of theirs; None if undefined.

    Precision is undefined for a class that was never predicted, and recall for a class without images. F1 is undefined
    if both are.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class ClassificationReport:
    """Scores by class and their averages; `absent` and `never_predicted` name classes.

    `macro` gives all classes the same weight, `weighted` that of their number of images. Both ignore undefined scores,
    and so cover fewer classes if some are absent.
    """

    n: int
    accuracy: float
    classes: tuple[Scores, ...]
    macro: Scores
    weighted: Scores
    absent: tuple[str, ...]
    never_predicted: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the report in plain types."""
        return asdict(self)


def classification_report(predictions: Predictions) -> ClassificationReport:
    """Return precision, recall, F1 and support of every class and their averages, as scikit-learn defines them."""
    from sklearn.metrics import precision_recall_fscore_support

    labels, predicted, names = predictions.labels, predictions.predicted, predictions.classes
    if not len(labels):
        raise InputError("classification report: the data have no images")

    def scores(average: str | None) -> tuple[Any, ...]:
        found: tuple[Any, ...] = precision_recall_fscore_support(
            labels, predicted, labels=range(len(names)), average=average, zero_division=np.nan
        )
        return found

    return ClassificationReport(
        n=len(labels),
        accuracy=float(predictions.correct.mean()),
        classes=tuple(
            _scores(name, values, int(support)) for name, *values, support in zip(names, *scores(None), strict=True)
        ),
        macro=_scores("macro average", scores("macro")[:3], len(labels)),
        weighted=_scores("weighted average", scores("weighted")[:3], len(labels)),
        absent=tuple(name for label, name in enumerate(names) if not (labels == label).any()),
        never_predicted=tuple(name for label, name in enumerate(names) if not (predicted == label).any()),
    )


def _scores(name: str, values: Sequence[float], support: int) -> Scores:
    precision, recall, f1 = (None if math.isnan(value) else float(value) for value in values)
    return Scores(name, precision, recall, f1, support)


def most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, (N,) bool and all wrong, by decreasing confidence, (M,) int64.

    Without a known confidence, they are in the order of the images.
    """
    positions = np.flatnonzero(failures)
    if not predictions.has_confidence:
        return positions
    return np.asarray(positions[np.argsort(-predictions.confidence_of_errors()[positions], kind="stable")])


def likely_most_confident(predictions: Predictions, failures: np.ndarray) -> np.ndarray:
    """Return the positions of the failures, (N,) bool, by decreasing approximate confidence, (M,) int64.

    It may be less precise than float32, but costs no forward pass and only affects the order.
    """
    positions = np.flatnonzero(failures)
    return np.asarray(positions[np.argsort(-predictions.confidence_as_answered[positions], kind="stable")])


def confusion_matrix(predictions: Predictions, among: np.ndarray | None = None) -> np.ndarray:
    """Return the number of images of each class (rows) predicted as each (columns), (classes, classes) int64.

    It counts all images, or those `among` them, (N,) bool.
    """
    count = len(predictions.classes)
    pairs = predictions.labels * count + predictions.predicted
    counts = np.bincount(pairs if among is None else pairs[among], minlength=count * count)
    return np.asarray(counts.reshape(count, count))


def confused_pairs(predictions: Predictions, *, most: int = 3) -> list[tuple[str, str]]:
    """Return the pairs of classes that are confused most often, in either direction, at least once.

    Equally frequent pairs are in the order of their classes.
    """
    confusions, classes = confusion_matrix(predictions), predictions.classes
    either_way = np.triu(confusions + confusions.T, k=1)
    order = np.argsort(-either_way, axis=None, kind="stable")[:most]
    numbers = [divmod(int(at), len(classes)) for at in order if either_way.flat[at] > 0]
    return [(classes[first], classes[second]) for first, second in numbers]
