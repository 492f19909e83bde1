"""Which images a model fails on and how: tables of failures, and how those of two models differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from harness.measures.failure_kinds import ANY, FailureKind
from harness.measures.mistakes import most_confident
from harness.perturb import in_words
from harness.store.records import record

if TYPE_CHECKING:
    from harness.inference import Predictions


LISTED = 100
"""Classes of which tables of failures list every probability; with 1,000 they would be gigabytes."""
_LIKELIEST = 3


@record
class Answer:
    """What a model says of one image: its position in the full split, the class, and each class's probability.

    Of many classes only those of the classes that are `named` may be there, the true one among them.
    """

    index: int
    true: str
    predicted: str
    confidence: float
    probabilities: tuple[float, ...]
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailureTable:
    """The failures of one kind among `n` images, the most confident first.

    `seen` says in words how the images were turned and moved. `absent` names the classes of the kind that no image is
    of. Probabilities stand in the order of `classes`; of more than `LISTED` classes those of the likeliest three and of
    the true one are there.
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
    return FailureTable(
        kind=kind.name,
        seen=in_words(predictions.perturbation),
        classes=predictions.classes,
        n=len(predictions.labels),
        absent=kind.absent(predictions.images),
        rows=answers_at(predictions, most_confident(predictions, kind.among(predictions)), listed=LISTED),
    )


def answers_at(predictions: Predictions, positions: np.ndarray, *, listed: int | None = None) -> tuple[Answer, ...]:
    """Return what the model says of the images at these positions, (M,) int64, of the predictions.

    Of more than `listed` classes, if that is given, only the likeliest three and the true one have their probability.
    Costs a forward pass only when an answer is right, see `Predictions.probabilities_at`.
    """
    classes = predictions.classes
    labels, predicted = predictions.labels[positions], predictions.predicted[positions]
    numbers = predictions.images.positions.numpy()[positions]
    shares = predictions.probabilities_at(positions)
    few = listed is not None and len(classes) > listed

    def said(number: int, label: int, taken: int, row: np.ndarray) -> Answer:
        about = (int(number), classes[label], classes[taken], float(row[taken]))
        if not few:
            return Answer(*about, tuple(map(float, row)))
        chosen = list(dict.fromkeys([*np.argsort(-row, kind="stable")[:_LIKELIEST].tolist(), int(label)]))
        return Answer(*about, tuple(map(float, row[chosen])), tuple(classes[each] for each in chosen))

    return tuple(said(*each) for each in zip(numbers, labels, predicted, shares, strict=True))


@record
class Comparison:
    """What two models say of one image."""

    after: Answer
    before: Answer


@dataclass(frozen=True)
class FailureChanges:
    """How two models' failures on the same images differ: of the one after only, of the one before only, of both.

    New failures and shared ones stand in the order of the confidence of the model after, fixed ones in that of the
    model before, the most confident first. Probabilities are as in a `FailureTable`.
    """

    kind: str
    classes: tuple[str, ...]
    new: tuple[Comparison, ...]
    fixed: tuple[Comparison, ...]
    shared: tuple[Comparison, ...]


def changed_positions(
    predictions: Predictions, before: Predictions, kind: FailureKind = ANY
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the positions of new, fixed and shared failures of this kind, each (M,) int64, in `FailureChanges`' order.

    Costs no forward pass. Raises `InputError` when the images differ.
    """
    if predictions.images.sha256 != before.images.sha256:
        raise InputError(
            "failure changes: the two models were measured on different images, so no failure can be said to be new; "
            "use the same images for both"
        )
    ours, theirs = kind.among(predictions), kind.among(before)
    return (
        most_confident(predictions, ours & ~theirs),
        most_confident(before, theirs & ~ours),
        most_confident(predictions, ours & theirs),
    )


def failure_changes(predictions: Predictions, before: Predictions, kind: FailureKind = ANY) -> FailureChanges:
    """Compare the failures of this kind with those of a model before; raises `InputError` when the images differ."""
    new, fixed, shared = (
        compared_at(predictions, before, positions, listed=LISTED)
        for positions in changed_positions(predictions, before, kind)
    )
    return FailureChanges(
        kind=kind.name,
        classes=predictions.classes,
        new=new,
        fixed=fixed,
        shared=shared,
    )


def compared_at(
    predictions: Predictions, before: Predictions, positions: np.ndarray, *, listed: int | None = None
) -> tuple[Comparison, ...]:
    """Return what two models say of the images at these positions, (M,) int64; see `answers_at`."""
    both = (answers_at(each, positions, listed=listed) for each in (predictions, before))
    return tuple(Comparison(after, earlier) for after, earlier in zip(*both, strict=True))
