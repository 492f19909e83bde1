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

    A `pair` of classes selects confusions of the two in either direction. `above` selects errors with a confidence over
    it, in [0, 1]. `only` selects images by their positions in the full split.
    """

    name: str
    pair: tuple[str, str] | None = None
    above: float | None = None
    only: frozenset[int] | None = None

    def among(self, predictions: Predictions) -> np.ndarray:
        """Return which predictions are failures of this kind, (N,) bool; raises `InputError` for an unknown class."""
        failures = ~predictions.correct
        if self.pair is not None:
            failures = confused(predictions, *self.pair) | confused(predictions, *self.pair[::-1])
        if self.above is not None:
            failures = failures & (predictions.confidence_of_errors() > self.above)
        if self.only is not None:
            named = np.fromiter(self.only, dtype=np.int64, count=len(self.only))
            failures = failures & np.isin(predictions.images.positions.numpy(), named)
        return np.asarray(failures)


ANY = FailureKind("any error")


def confident(above: float) -> FailureKind:
    """Return the kind of errors with a confidence over `above`, in [0, 1]."""
    return FailureKind(f"errors over {above:.0%} confidence", above=above)


def confusion(first: str, second: str) -> FailureKind:
    """Return the kind of confusions of two classes; raises `InputError` for twice the same class."""
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

UNIQUE = "unique: every reference model is correct"
"""The kind of errors that no reference model makes."""
UNIQUE_CONFIDENT = "over 90% confidence, unique"

_PAIRS = 5
"""Number of confusions for data other than the study's, which has five."""


def kinds_for(
    predictions: Predictions, owners: Mapping[str, frozenset[int]] | None = None
) -> tuple[FailureKind, ...]:
    """Return the kinds of failures for a report: any error, and for Fashion-MNIST's classes the study's six.

    Other data have errors over 90% confidence, and the pairs of classes that these predictions confuse most often. With
    `owners`, see `harness.measures.panel.label_errors`, any error is divided into shared, seed-dependent and unique
    ones. Confident unique errors are then a kind too.
    """
    if all(name in predictions.classes for kind in STUDY_KINDS for name in kind.pair or ()):
        sure, *pairs = STUDY_KINDS
    else:
        sure, pairs = (
            confident(0.9),
            [confusion(*pair) for pair in confused_pairs(predictions, most=_PAIRS)],
        )
    if not predictions.has_confidence:
        return ANY, *pairs
    divided = [FailureKind(name, only=images) for name, images in (owners or {}).items()]
    own = [replace(sure, name=UNIQUE_CONFIDENT, only=owners[UNIQUE])] if owners else []
    return ANY, *divided, sure, *own, *pairs


LISTED = 100
"""Most classes for which tables of failures list every probability; for 1,000 they would take gigabytes."""
_LIKELIEST = 3


@record
class Answer:
    """Prediction for one image: its position in the full split, the class, and the probability of each class.

    For many classes, only those in `named`, with the true one among them, may have a probability.
    """

    index: int
    true: str
    predicted: str
    confidence: float | None
    """None if only labels are known."""
    probabilities: tuple[float, ...]
    named: tuple[str, ...] = ()

    @property
    def sure(self) -> str:
        """Return the confidence as text, such as 97%; empty if unknown."""
        return "" if self.confidence is None else f"{self.confidence:.0%}"

    def shares(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the known probabilities by class; `classes` are those of the data."""
        return dict(zip(self.named or classes, self.probabilities, strict=False))


@dataclass(frozen=True)
class FailureTable:
    """The failures of one kind among `n` images, the most confident first.

    `seen` describes the perturbation of the images. `absent` names the classes of the kind without images.
    Probabilities are in the order of `classes`; with more than `LISTED` classes, only the likeliest three and the true
    one have some.
    """

    kind: str
    seen: str
    classes: tuple[str, ...]
    n: int
    absent: tuple[str, ...]
    rows: tuple[Answer, ...]


def failure_table(predictions: Predictions, kind: FailureKind = ANY) -> FailureTable:
    """List the failures of this kind; raises `InputError` if the kind names a class that the data lack."""
    return FailureTable(
        kind=kind.name,
        seen=in_words(predictions.perturbation),
        classes=predictions.classes,
        n=len(predictions.labels),
        absent=tuple(name for name in kind.pair or () if not of_class(predictions, name).any()),
        rows=answers_at(
            predictions, most_confident(predictions, kind.among(predictions)), listed=LISTED
        ),
    )


def answers_at(
    predictions: Predictions, positions: np.ndarray, *, listed: int | None = None
) -> tuple[Answer, ...]:
    """Return the model's predictions for the images at these positions, (M,) int64.

    With more than `listed` classes, only the likeliest three and the true one have a probability. A predictor of labels
    gives none, and one of top classes only theirs. It costs a forward pass only if a prediction is correct, see
    `Predictions.probabilities_at`.
    """
    classes, top = predictions.classes, predictions.known
    few = listed is not None and len(classes) > listed

    def said(number: int, label: int, taken: int, row: np.ndarray) -> Answer:
        chosen, ranked = None, np.argsort(-row, kind="stable").tolist()
        if top is not None:
            chosen = ranked[:top]
        elif few:
            chosen = list(dict.fromkeys([*ranked[:_LIKELIEST], int(label)]))
        sure = None if top == 0 else float(row[taken])
        shares = tuple(map(float, row if chosen is None else row[chosen]))
        return Answer(
            int(number),
            classes[label],
            classes[taken],
            sure,
            shares,
            tuple(classes[at] for at in chosen or ()),
        )

    shares = np.empty((len(positions), 0)) if top == 0 else predictions.probabilities_at(positions)
    numbers = predictions.images.positions.numpy()
    each = (table[positions] for table in (numbers, predictions.labels, predictions.predicted))
    return tuple(said(*one) for one in zip(*each, shares, strict=True))


@record
class Comparison:
    """Predictions of two models for one image."""

    candidate: Answer
    other: Answer


def changed_positions(
    predictions: Predictions, other: Predictions, kind: FailureKind = ANY
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of new, fixed and shared failures of this kind, each (M,) int64, the most confident first.

    They are failures of the first model only, of the other only, and of both. The confidence is the first model's, for
    fixed ones the other's. It costs no forward pass. Raises `InputError` if the images differ.
    """
    expect_same_images("failure changes", predictions, other)
    ours, theirs = kind.among(predictions), kind.among(other)
    return (
        most_confident(predictions, ours & ~theirs),
        most_confident(other, theirs & ~ours),
        most_confident(predictions, ours & theirs),
    )


def failure_changes(
    predictions: Predictions, other: Predictions, kind: FailureKind = ANY
) -> dict[str, tuple[Comparison, ...]]:
    """Return the new, fixed and shared failures of this kind by these names, in the order of `changed_positions`.

    Probabilities are as in a `FailureTable`. Raises `InputError` if the images differ.
    """
    found = zip(
        ("new", "fixed", "shared"), changed_positions(predictions, other, kind), strict=True
    )
    return {
        name: compared_at(predictions, other, positions, listed=LISTED) for name, positions in found
    }


def compared_at(
    predictions: Predictions,
    other: Predictions,
    positions: np.ndarray,
    *,
    listed: int | None = None,
) -> tuple[Comparison, ...]:
    """Return the predictions of two models for the images at these positions, (M,) int64; see `answers_at`."""
    both = (answers_at(each, positions, listed=listed) for each in (predictions, other))
    return tuple(Comparison(*each) for each in zip(*both, strict=True))
