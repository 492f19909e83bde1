"""Kinds of failures, tables of the images that fail, and changes of failures between two models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.base.records import record
from harness.measures.accuracy import confused_pairs
from harness.measures.selection import confused, expect_same_images, most_confident, of_class
from harness.perturb import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.inference import Predictions


@dataclass(frozen=True)
class FailureKind:
    """A kind of failures, by default any wrong prediction.

    Attributes:
        name: The name of the kind, for readers.
        pair: Two classes; selects confusions of the two in either direction.
        above: Selects errors with a confidence over this, in [0, 1].
        only: Selects images by their positions in the full split.
    """

    name: str
    pair: tuple[str, str] | None = None
    above: float | None = None
    only: frozenset[int] | None = None

    def among(self, predictions: Predictions) -> np.ndarray:
        """Return which predictions are failures of this kind, (N,) bool.

        Raises `InputError` for an unknown class.
        """
        failures = ~predictions.correct
        if self.pair is not None:
            first, second = self.pair
            forth = confused(predictions, first, second)
            back = confused(predictions, second, first)
            failures = forth | back
        if self.above is not None:
            failures = failures & (predictions.confidence_of_errors() > self.above)
        if self.only is not None:
            selected = np.fromiter(self.only, dtype=np.int64, count=len(self.only))
            failures = failures & np.isin(predictions.images.positions.numpy(), selected)
        return np.asarray(failures)


ANY = FailureKind("any error")


def confident(above: float) -> FailureKind:
    """Return the kind of errors with a confidence over `above`, in [0, 1].

    >>> confident(0.9).name
    'errors over 90% confidence'
    """
    return FailureKind(f"errors over {above:.0%} confidence", above=above)


def confusion(first: str, second: str) -> FailureKind:
    """Return the kind of confusions of two classes, in either direction.

    Raises `InputError` for twice the same class.

    >>> confusion("Coat", "Pullover").name
    'Coat↔Pullover'
    """
    if first == second:
        raise InputError(
            f"a confusion of {first!r} with itself is no failure; name two different classes"
        )
    return FailureKind(f"{first}↔{second}", pair=(first, second))


STUDY_KINDS = (
    confident(0.9),
    confusion("Shirt", "T-shirt/top"),
    confusion("Coat", "Pullover"),
    confusion("Sandal", "Sneaker"),
    confusion("Dress", "Coat"),
    confusion("Ankle boot", "Sneaker"),
)
"""The six kinds of failures in the Fashion-MNIST study."""
_STUDY_CLASSES = frozenset[str]().union(*(kind.pair or () for kind in STUDY_KINDS))

UNIQUE = "unique: every reference model is correct"
"""The kind of errors that no reference model makes."""
UNIQUE_CONFIDENT = "over 90% confidence, unique"

_PAIRS = 5
"""Number of confusions for data other than the study's, which has five."""


def kinds_for(
    predictions: Predictions, owners: Mapping[str, frozenset[int]] | None = None
) -> tuple[FailureKind, ...]:
    """Return the kinds of failures for a report.

    They are any error, and for Fashion-MNIST's classes the study's six. Other data have errors over
    90% confidence, and the pairs of classes that these predictions confuse most often.

    Args:
        predictions: The predictions of the report.
        owners: Images by kind of error, see `harness.measures.panel.label_errors`. With them, any
            error is divided into shared, seed-dependent and unique ones, and confident unique
            errors are a kind, too.
    """
    if _STUDY_CLASSES.issubset(predictions.classes):
        confident_errors, *pairs = STUDY_KINDS
    else:
        confident_errors = confident(0.9)
        pairs = [confusion(*pair) for pair in confused_pairs(predictions, most=_PAIRS)]

    if not predictions.has_confidence:
        return ANY, *pairs
    if not owners:
        return ANY, confident_errors, *pairs
    divided = [FailureKind(name, only=images) for name, images in owners.items()]
    unique = replace(confident_errors, name=UNIQUE_CONFIDENT, only=owners[UNIQUE])
    return ANY, *divided, confident_errors, unique, *pairs


LISTED = 100
"""Most classes for which tables of failures list every probability.

For 1,000 classes, all probabilities would take gigabytes.
"""
_LIKELIEST = 3


@record
class Answer:
    """Prediction for one image.

    Attributes:
        index: The position of the image in the full split.
        true: The true class.
        predicted: The predicted class.
        confidence: The probability of the predicted class; None if only labels are known.
        probabilities: The probability of each class.
        named: The classes that have a probability, with the true one among them, if not all have;
            empty for all.
    """

    index: int
    true: str
    predicted: str
    confidence: float | None
    probabilities: tuple[float, ...]
    named: tuple[str, ...] = ()

    @property
    def sure(self) -> str:
        """Return the confidence as text, such as 97%; empty if unknown."""
        if self.confidence is None:
            return ""
        return f"{self.confidence:.0%}"

    def shares(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the known probabilities by class; `classes` are those of the data."""
        return dict(zip(self.named or classes, self.probabilities, strict=False))


@dataclass(frozen=True)
class FailureTable:
    """The failures of one kind among `n` images, the most confident first.

    Attributes:
        kind: The name of the kind.
        seen: A description of the perturbation of the images.
        classes: The names of the classes, in the order of the probabilities.
        n: The number of images.
        absent: The classes of the kind without images.
        rows: The failures. With more than `LISTED` classes, only the likeliest three and the true
            one have a probability.
    """

    kind: str
    seen: str
    classes: tuple[str, ...]
    n: int
    absent: tuple[str, ...]
    rows: tuple[Answer, ...]


def failure_table(predictions: Predictions, kind: FailureKind = ANY) -> FailureTable:
    """List the failures of this kind.

    Raises `InputError` if the kind names a class that the data lack.
    """
    absent = [name for name in kind.pair or () if not of_class(predictions, name).any()]
    failures = most_confident(predictions, kind.among(predictions))
    return FailureTable(
        kind=kind.name,
        seen=in_words(predictions.perturbation),
        classes=predictions.classes,
        n=len(predictions.labels),
        absent=tuple(absent),
        rows=answers_at(predictions, failures, listed=LISTED),
    )


def answers_at(
    predictions: Predictions, positions: np.ndarray, *, listed: int | None = None
) -> tuple[Answer, ...]:
    """Return the model's predictions for the images at these positions, (M,) int64.

    It costs a forward pass only if a prediction is correct, see `Predictions.probabilities_at`.

    Args:
        predictions: The predictions of the model.
        positions: The positions of the images in the predictions, (M,) int64.
        listed: With more classes than this, only the likeliest three and the true one have a
            probability. A predictor of labels gives none, and one of top classes only theirs.
    """
    if predictions.known == 0:
        probabilities = np.empty((len(positions), 0))
    else:
        probabilities = predictions.probabilities_at(positions)
    indices = predictions.images.positions.numpy()[positions]
    answers = []
    for position, index, row in zip(positions, indices, probabilities, strict=True):
        answers.append(_answer_at(predictions, position, int(index), row, listed=listed))
    return tuple(answers)


def _answer_at(
    predictions: Predictions,
    position: int,
    index: int,
    probabilities: np.ndarray,
    *,
    listed: int | None,
) -> Answer:
    """Return the prediction for one image.

    Args:
        predictions: The predictions of the model.
        position: The position of the image in the predictions.
        index: Its position in the full split.
        probabilities: The probabilities of all classes, (C,), or of none.
        listed: See `answers_at`.
    """
    classes = predictions.classes
    label = int(predictions.labels[position])
    predicted = int(predictions.predicted[position])
    confidence = None
    if predictions.known != 0:
        confidence = float(probabilities[predicted])

    named: list[int] | None = None
    likeliest_first = np.argsort(-probabilities, kind="stable").tolist()
    if predictions.known is not None:
        named = likeliest_first[: predictions.known]
    elif listed is not None and len(classes) > listed:
        named = list(dict.fromkeys([*likeliest_first[:_LIKELIEST], label]))
    if named is None:
        shown = probabilities
        names = []
    else:
        shown = probabilities[named]
        names = [classes[number] for number in named]
    return Answer(
        index,
        classes[label],
        classes[predicted],
        confidence,
        tuple(map(float, shown)),
        tuple(names),
    )


@record
class Comparison:
    """Predictions of two models for one image."""

    candidate: Answer
    other: Answer


def changed_positions(
    predictions: Predictions, other: Predictions, kind: FailureKind = ANY
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of new, fixed and shared failures of this kind, (M,) int64 for each.

    They are failures of the first model only, of the other only, and of both. The most confident
    come first. The confidence is the first model's, for fixed ones the other's. It costs no forward
    pass. Raises `InputError` if the images differ.
    """
    expect_same_images("failure changes", predictions, other)
    failures = kind.among(predictions)
    other_failures = kind.among(other)
    return (
        most_confident(predictions, failures & ~other_failures),
        most_confident(other, other_failures & ~failures),
        most_confident(predictions, failures & other_failures),
    )


def failure_changes(
    predictions: Predictions, other: Predictions, kind: FailureKind = ANY
) -> dict[str, tuple[Comparison, ...]]:
    """Return the new, fixed and shared failures of this kind by these names.

    They are in the order of `changed_positions`. Probabilities are as in a `FailureTable`. Raises
    `InputError` if the images differ.
    """
    new, fixed, shared = changed_positions(predictions, other, kind)
    return {
        "new": compared_at(predictions, other, new, listed=LISTED),
        "fixed": compared_at(predictions, other, fixed, listed=LISTED),
        "shared": compared_at(predictions, other, shared, listed=LISTED),
    }


def compared_at(
    predictions: Predictions,
    other: Predictions,
    positions: np.ndarray,
    *,
    listed: int | None = None,
) -> tuple[Comparison, ...]:
    """Return the predictions of two models for the images at these positions, (M,) int64.

    See `answers_at`.
    """
    answers = answers_at(predictions, positions, listed=listed)
    other_answers = answers_at(other, positions, listed=listed)
    return tuple(map(Comparison, answers, other_answers))
