"""What counts as a failure: the kinds that reports look at, of the study's data and of any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from harness.measures.accuracy import class_number
from harness.measures.mistakes import confused_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import LabelledImages
    from harness.inference import Predictions


@dataclass(frozen=True)
class FailureKind:
    """What counts as a failure.

    Any wrong answer; with a `pair` of classes only those that take one for the other, either way round; with `above`
    only those whose confidence is over it, in [0, 1]; with `only` those on these images, by their positions in the
    full split.
    """

    name: str
    pair: tuple[str, str] | None = None
    above: float | None = None
    only: frozenset[int] | None = None

    def among(self, predictions: Predictions) -> np.ndarray:
        """Return which answers are failures of this kind, (N,) bool; raises `InputError` for an unknown class."""
        failures = ~predictions.correct
        if self.pair is not None:
            first, second = (class_number(predictions, name) for name in self.pair)
            labels, predicted = predictions.labels, predictions.predicted
            failures = ((labels == first) & (predicted == second)) | ((labels == second) & (predicted == first))
        if self.above is not None:
            failures = failures & (predictions.confidence_of_errors() > self.above)
        if self.only is not None:
            named = np.fromiter(self.only, dtype=np.int64, count=len(self.only))
            failures = failures & np.isin(predictions.images.positions.numpy(), named)
        return np.asarray(failures)

    def absent(self, images: LabelledImages) -> tuple[str, ...]:
        """Return the classes of the pair that no image is of: such a table says nothing about them."""
        present = {images.classes[label] for label in np.unique(images.labels.numpy())}
        return tuple(name for name in self.pair or () if name not in present)


ANY = FailureKind("any error")


def confident(above: float) -> FailureKind:
    """Return the kind of errors that the model makes with a confidence over `above`, in [0, 1]."""
    return FailureKind(f"errors over {above:.0%} confidence", above=above)


def confusion(first: str, second: str) -> FailureKind:
    """Return the kind of errors that take one class for the other; raises `InputError` for one and the same."""
    if first == second:
        raise InputError(f"a confusion of {first!r} with itself is no failure; name two different classes")
    return FailureKind(f"{first}↔{second}", pair=(first, second))


STUDY_KINDS = (
    confident(0.9),
    confusion("Shirt", "T-shirt/top"),
    confusion("Coat", "Pullover"),
    confusion("Sandal", "Sneaker"),
    confusion("Dress", "Coat"),
    confusion("Ankle boot", "Sneaker"),
)
"""The six kinds of failure that the Fashion-MNIST study looks at."""

OWN = "its own: every retrain is right"
"""The kind of errors that no healthy retrain makes."""
OWN_CONFIDENT = "over 90% confidence, its own"

_PAIRS = 5
"""Confusions looked at in data that the study does not know, like the study's five."""


def kinds_for(predictions: Predictions, owners: Mapping[str, frozenset[int]] | None = None) -> tuple[FailureKind, ...]:
    """Return the kinds to look at: any error, and the study's six where the classes are those of Fashion-MNIST.

    Of other data errors over 90% confidence, and the pairs of classes that these predictions confuse most often. Where
    it is known whose errors the images are, see `owners` in `harness.measures.panel.label_errors`, any error is divided
    by that, and confident ones that are the model's own are a kind, too.
    """
    any_error, sure, *others = _kinds(predictions)
    divided = [FailureKind(name, only=images) for name, images in (owners or {}).items()]
    own = [replace(confident(0.9), name=OWN_CONFIDENT, only=owners[OWN])] if owners else []
    return any_error, *divided, sure, *own, *others


def _kinds(predictions: Predictions) -> tuple[FailureKind, ...]:
    if all(name in predictions.classes for kind in STUDY_KINDS for name in kind.pair or ()):
        return ANY, *STUDY_KINDS
    pairs = confused_pairs(predictions, most=_PAIRS)
    return ANY, confident(0.9), *(confusion(*pair) for pair in pairs)
