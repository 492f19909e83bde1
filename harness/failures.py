"""Which images a model fails on and how: tables by kind of failure, between two models, and over many poses."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.perturb import Perturbation


@dataclass(frozen=True)
class FailureKind:
    """What counts as a failure.

    Any wrong answer; with a `pair` of classes only those that take one for the other, either way round; with `above`
    only those whose confidence is over it, in [0, 1].
    """

    name: str
    pair: tuple[str, str] | None = None
    above: float | None = None

    def among(self, predictions: Predictions) -> np.ndarray:
        """Return which answers are failures of this kind, (N,) bool; raises `InputError` for an unknown class."""
        failures = ~predictions.correct
        if self.pair is not None:
            first, second = (_label(predictions.classes, name) for name in self.pair)
            labels, predicted = predictions.labels, predictions.predicted
            failures = ((labels == first) & (predicted == second)) | ((labels == second) & (predicted == first))
        if self.above is not None:
            failures = failures & (predictions.confidence_of_errors() > self.above)
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


def all_confusions(classes: Sequence[str]) -> tuple[FailureKind, ...]:
    """Return the confusions of every pair of classes."""
    return tuple(confusion(first, second) for first, second in combinations(classes, 2))


STUDY_KINDS = (
    confident(0.9),
    confusion("Shirt", "T-shirt/top"),
    confusion("Coat", "Pullover"),
    confusion("Sandal", "Sneaker"),
    confusion("Dress", "Coat"),
    confusion("Ankle boot", "Sneaker"),
)
"""The six kinds of failure that the Fashion-MNIST study looks at."""


@dataclass(frozen=True)
class Answer:
    """What a model says of one image: its position in the full split, the class, and each class's probability."""

    index: int
    true: str
    predicted: str
    confidence: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class FailureTable:
    """The failures of one kind among `n` images, the most confident first.

    `seen` says in words how the images were turned and moved. `absent` names the classes of the kind that no image is
    of. Probabilities stand in the order of `classes`.
    """

    kind: str
    seen: str
    classes: tuple[str, ...]
    n: int
    absent: tuple[str, ...]
    rows: tuple[Answer, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the table in plain types."""
        return asdict(self)


def failure_table(predictions: Predictions, kind: FailureKind = ANY) -> FailureTable:
    """List the failures of this kind; raises `InputError` when the kind names a class that the data do not know."""
    positions = np.flatnonzero(kind.among(predictions))
    order = np.argsort(-predictions.confidence_of_errors()[positions], kind="stable")
    return FailureTable(
        kind=kind.name,
        seen=in_words(predictions.perturbation),
        classes=predictions.classes,
        n=len(predictions.labels),
        absent=kind.absent(predictions.images),
        rows=answers_at(predictions, positions[order]),
    )


def answers_at(predictions: Predictions, positions: np.ndarray) -> tuple[Answer, ...]:
    """Return what the model says of the images at these positions, (M,) int64, of the predictions.

    Costs a forward pass only when an answer is right, see `Predictions.probabilities_at`.
    """
    classes = predictions.classes
    labels, predicted = predictions.labels[positions], predictions.predicted[positions]
    numbers = predictions.images.positions.numpy()[positions]
    shares = predictions.probabilities_at(positions)
    return tuple(
        Answer(int(number), classes[label], classes[taken], float(row[taken]), tuple(map(float, row)))
        for number, label, taken, row in zip(numbers, labels, predicted, shares, strict=True)
    )


@dataclass(frozen=True)
class Comparison:
    """What two models say of one image."""

    after: Answer
    before: Answer


@dataclass(frozen=True)
class FailureChanges:
    """How two models' failures on the same `n` images differ: of the one after only, of the one before only, of both.

    New failures and shared ones stand in the order of the confidence of the model after, fixed ones in that of the
    model before, the most confident first.
    """

    kind: str
    seen: str
    classes: tuple[str, ...]
    n: int
    new: tuple[Comparison, ...]
    fixed: tuple[Comparison, ...]
    shared: tuple[Comparison, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the tables in plain types."""
        return asdict(self)


def failure_changes(predictions: Predictions, before: Predictions, kind: FailureKind = ANY) -> FailureChanges:
    """Compare the failures of this kind with those of a model before; raises `InputError` when the images differ."""
    if predictions.images.sha256 != before.images.sha256:
        raise InputError(
            "failure changes: the two models were measured on different images, so no failure can be said to be new; "
            "use the same images for both"
        )
    ours, theirs = kind.among(predictions), kind.among(before)

    def compared(chosen: np.ndarray, ranked_by: Predictions) -> tuple[Comparison, ...]:
        positions = np.flatnonzero(chosen)
        positions = positions[np.argsort(-ranked_by.confidence_of_errors()[positions], kind="stable")]
        pairs = zip(answers_at(predictions, positions), answers_at(before, positions), strict=True)
        return tuple(Comparison(after, earlier) for after, earlier in pairs)

    return FailureChanges(
        kind=kind.name,
        seen=in_words(predictions.perturbation),
        classes=predictions.classes,
        n=len(ours),
        new=compared(ours & ~theirs, predictions),
        fixed=compared(theirs & ~ours, before),
        shared=compared(ours & theirs, predictions),
    )


@dataclass(frozen=True)
class PersistentFailure:
    """An image that is wrong at `wrong_at` of the poses; `taken_for` is the commonest wrong answer, if known."""

    index: int
    true: str
    wrong_at: int
    taken_for: str | None = None


@dataclass(frozen=True)
class PersistentFailures:
    """The images, of `n`, that are wrong at more than a share `above` of the `poses`, the most persistent first."""

    n: int
    poses: int
    above: float
    rows: tuple[PersistentFailure, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the table in plain types."""
        return asdict(self)


def persistent_failures(
    images: LabelledImages, correct: np.ndarray, *, predicted: np.ndarray | None = None, above: float = 0.5
) -> PersistentFailures:
    """List the images that are wrong at most poses; `correct` is (N, P) bool, `predicted` (N, P) int64 if known.

    "Most" is more than a share `above`, in [0, 1]. Raises `InputError` for a matrix of another shape, or of no pose.
    """
    if correct.ndim != 2 or correct.shape[0] != len(images) or not correct.shape[1]:  # noqa: PLR2004
        raise InputError(
            f"persistent failures: correctness has shape {correct.shape}, expected ({len(images)}, poses), one or more"
        )
    wrong, poses = (~correct).sum(axis=1), correct.shape[1]
    chosen = np.flatnonzero(wrong > above * poses)
    numbers, labels = images.positions.numpy(), images.labels.numpy()
    rows = []
    for position in chosen[np.argsort(-wrong[chosen], kind="stable")]:
        taken_for = None
        if predicted is not None:
            votes = Counter(predicted[position][~correct[position]].tolist())
            taken_for = images.classes[min(votes, key=lambda label: (-votes[label], label))]
        true = images.classes[labels[position]]
        rows.append(PersistentFailure(int(numbers[position]), true, int(wrong[position]), taken_for))
    return PersistentFailures(len(images), poses, above, tuple(rows))


def persistent_over(predictions: Sequence[Predictions], *, above: float = 0.5) -> PersistentFailures:
    """List the images that are wrong in most of these predictions of the same images, such as one for each pose."""
    if not predictions or len({each.images.sha256 for each in predictions}) > 1:
        raise InputError("persistent failures: expected one or more predictions, all of the same images")
    correct = np.stack([each.correct for each in predictions], axis=1)
    predicted = np.stack([each.predicted for each in predictions], axis=1)
    return persistent_failures(predictions[0].images, correct, predicted=predicted, above=above)


def _label(classes: tuple[str, ...], name: str) -> int:
    if name not in classes:
        raise InputError(f"unknown class {name!r}; the data have {', '.join(classes)}")
    return classes.index(name)


def in_words(perturbation: Perturbation) -> str:
    """Return what a perturbation does to an image, in its own words if it has some."""
    own: Callable[[], str] | None = getattr(perturbation, "in_words", None)
    return own() if own else repr(perturbation)
