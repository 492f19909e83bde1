"""Answers of predictors: their kind, their validation, the order of their classes, their logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from harness.base.errors import UnusableModelError, some_of
from harness.inference.predictors.protocol import PredictorError, Provides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.inference.predictions import Predictions
    from harness.inference.predictors.protocol import Scores

_SUMS_TO_ONE = 1e-3
"""The largest distance of the sum of an image's probabilities from one."""
_SMALLEST = float(np.finfo(np.float32).tiny)
_NOTE_ON_PROBABILITIES = (
    "its first outputs are 0 to 1 with sums of 1, so they are probabilities; "
    "if not, set model_outputs logits"
)
_KINDS_OF_OUTPUTS = ("logits", "probabilities", "labels", "scores")
_DIMENSIONS_OF_SCORES = 2

_LEAST_IMAGES = 5
"""Least images of a clear class."""
_CHANCE = 1e-3
"""Largest probability that a guess puts as many images of a class in its place.

A swap of two classes has the square.
"""
_LEAST_QUOTIENT = 5
"""Least quotient of correct images by another order and by the order of the data."""
_LEAST_ACCURACY = 1 / 2
"""Least accuracy by the other order."""
_LEAST_CLEAR = 3 / 4
"""Least share of clear classes in a cycle."""


def provided(
    answers: np.ndarray, setting: str | None, own: Any = None, *, top: Any = None
) -> Provides:
    """Return the kind of answers of a predictor.

    Its own declaration decides, else the setting model_outputs, which is for all models of a run. A
    predictor that declares its scores does not need the setting, nor do labels and top classes.
    Undeclared scores are probabilities if all are from 0 to 1 and sum to one for each image; a note
    says so.

    Args:
        answers: The first answers; the shape (N,) means labels.
        setting: The setting model_outputs.
        own: The predictor's declaration of its outputs.
        top: The predictor's declaration of how many top classes it returns.

    Raises:
        PredictorError: A declaration is unknown, or the answers contradict it.
    """
    _expect_declaration(own, top)
    if own == "scores":
        return Provides("scores")
    if answers.ndim == 1:
        if own not in {None, "labels"}:
            raise PredictorError(
                f"declares {own}, but returned labels, an array of shape {answers.shape}"
            )
        return Provides("labels", top=top)

    declared = own or setting
    if top is not None:
        declared = "probabilities"
    if declared is None and _look_like_probabilities(answers):
        return Provides("probabilities", note=_NOTE_ON_PROBABILITIES)
    return Provides(cast("Scores", declared or "logits"), top=top)


def _expect_declaration(own: Any, top: Any) -> None:
    """Raise `PredictorError` for an unknown declaration of a predictor."""
    if own not in (None, *_KINDS_OF_OUTPUTS):
        raise PredictorError(f"declares outputs = {own!r}, expected {', '.join(_KINDS_OF_OUTPUTS)}")
    if top is None:
        return
    if type(top) is not int or top < 1:
        raise PredictorError(f"declares top = {top!r}, expected a number of classes, 1 or more")
    if own not in {None, "probabilities"}:
        raise PredictorError(
            f"declares the top {top} classes and {own}; "
            "the scores of top classes must be probabilities"
        )


def _look_like_probabilities(answers: np.ndarray) -> bool:
    """Return whether undeclared answers are probabilities of two or more classes."""
    if answers.ndim < _DIMENSIONS_OF_SCORES or answers.shape[1] < 2:  # noqa: PLR2004
        return False
    return are_probabilities(answers)


def checked(
    answers: np.ndarray, scores: str, *, images: int, classes: int | None, top: bool = False
) -> np.ndarray:
    """Return the answers for N images as labels or as other scores.

    Args:
        answers: The answers of a predictor.
        scores: Their kind; "labels" for predicted classes.
        images: The number N of images.
        classes: The number of classes; None for any number.
        top: NaN stands for unknown probabilities of other classes than the top ones.

    Returns:
        Labels, (N,) int64, or scores, (N, classes) float32.

    Raises:
        PredictorError: The type or the shape is wrong, labels are no class, or scores are not
            finite.
    """
    if scores == "labels":
        return _checked_labels(answers, images=images, classes=classes)
    if not np.issubdtype(answers.dtype, np.floating):
        raise PredictorError(
            f"its {scores} are {answers.dtype} of shape {answers.shape}, expected floats"
        )

    fits = answers.ndim == _DIMENSIONS_OF_SCORES and len(answers) == images
    if classes is not None:
        fits = answers.shape == (images, classes)
    if not fits:
        columns = "classes" if classes is None else classes
        raise PredictorError(
            f"its {scores} have the shape {answers.shape} for {images} images, "
            f"expected ({images}, {columns})"
        )

    with np.errstate(over="ignore"):  # Values beyond the range of float32 become infinite.
        answers = answers.astype(np.float32, copy=False)
    images_with_invalid = int((~np.isfinite(answers)).any(axis=1).sum())
    if images_with_invalid and not top:
        raise PredictorError(
            f"its {scores} have NaN or infinity for {images_with_invalid} of {images} images"
        )
    return answers


def _checked_labels(answers: np.ndarray, *, images: int, classes: int | None) -> np.ndarray:
    """Return labels, (N,) int64; raises `PredictorError` unless each is a class."""
    if answers.shape != (images,) or not np.issubdtype(answers.dtype, np.integer):
        raise PredictorError(
            f"its labels are {answers.dtype} of shape {answers.shape}, expected {images} integers"
        )

    last_class = np.iinfo(np.int64).max - 1
    if classes is not None:
        last_class = classes - 1
    outside = (answers < 0) | (answers > last_class)
    if outside.any():
        examples = some_of([str(label) for label in np.unique(answers[outside])])
        raise PredictorError(
            f"{outside.sum()} of {images} labels are no class: {examples}; "
            f"the data have classes 0 to {last_class}"
        )
    return answers.astype(np.int64)


def checked_scores(scores: np.ndarray, *, images: int) -> np.ndarray:
    """Return a score of each image, (N,) float32.

    Raises:
        PredictorError: Not all scores are numbers in [0, 1].
    """
    if scores.dtype.kind not in "biuf" or scores.shape != (images,):
        raise PredictorError(
            f"its scores are {scores.dtype} of shape {scores.shape}, "
            f"expected {images} numbers from 0 to 1, one for each image"
        )

    missing = int(np.isnan(scores.astype(np.float64)).sum())
    if missing:
        raise PredictorError(
            f"{missing} of {images} scores are NaN; "
            "give a score for each image, such as 0 where nothing was found"
        )

    outside = (scores < 0) | (scores > 1)
    if outside.any():
        examples = some_of([f"{score:g}" for score in np.unique(scores[outside])])
        raise PredictorError(
            f"{outside.sum()} of {images} scores are outside of 0 to 1: {examples}; "
            "rescale them, so that 1 is best"
        )
    return scores.astype(np.float32)


def as_logits(answers: np.ndarray, provides: Provides, *, images: int, classes: int) -> np.ndarray:
    """Return logits, (N, classes) float32, of a predictor's answers for N images.

    The softmax of the logits gives the predictor's probabilities. A label becomes logits with the
    largest at the label. A score of an image stands in every column, which no order of classes
    changes.

    Raises:
        PredictorError: Answers are invalid, see `checked`, or probabilities do not sum to one.
    """
    if provides.scored:
        by_image = checked_scores(answers, images=images)
        return np.asarray(np.repeat(by_image[:, None], classes, axis=1))

    answers = checked(
        answers, provides.scores, images=images, classes=classes, top=provides.top is not None
    )
    if provides.scores == "labels":
        return np.asarray(np.eye(classes, dtype=np.float32)[answers])
    if provides.scores == "logits":
        return answers.copy()

    if provides.top is not None:
        answers = _completed(answers, provides.top)
    wrong = int(_no_probabilities(answers).sum())
    if wrong:
        sums = answers.sum(axis=1)
        raise PredictorError(
            f"the predictor's probabilities are {answers.min():.3g} to {answers.max():.3g} "
            f"with sums of {sums.min():.3g} to {sums.max():.3g}, "
            f"expected a sum of 1 ({wrong} of {images} images are wrong). "
            "Declare logits with model_outputs logits, or return probabilities"
        )
    return np.asarray(np.log(np.maximum(answers, _SMALLEST)))


def are_probabilities(scores: np.ndarray) -> bool:
    """Return whether scores, (N, classes), are probabilities: at least 0, with a sum of 1."""
    return not _no_probabilities(scores).any()


def _no_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return which images have scores that are no probabilities, (N,) bool."""
    sums_to_one = np.abs(scores.sum(axis=1) - 1) <= _SUMS_TO_ONE
    none_negative = (scores >= 0).all(axis=1)
    return np.asarray(~(sums_to_one & none_negative))


def _completed(answers: np.ndarray, top: int) -> np.ndarray:
    """Return probabilities in which the unknown classes share what is missing from a sum of one."""
    unknown = np.isnan(answers)
    known_classes = (~unknown).sum(axis=1)
    if (known_classes < min(1, top)).any() or (known_classes > top).any():
        raise PredictorError(
            f"the predictor declared the top {top} classes, "
            f"but returned {known_classes.min()} to {known_classes.max()} of them"
        )

    remainder = np.maximum(0, 1 - np.nansum(answers, axis=1))
    equal_share = remainder / np.maximum(1, unknown.sum(axis=1))
    # An unknown class stays behind every known one.
    below_known = np.nextafter(np.nanmin(answers, axis=1), np.float32(0))
    share = np.minimum(equal_share, below_known)
    return np.where(unknown, share[:, None], answers)


def order_of(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the positions of the data's classes in a predictor's order, (classes,) int64.

    Args:
        names: The predictor's names of the classes, in its order.
        classes: The names of the data.

    Raises:
        UnusableModelError: The names are not those of the data, each once.
    """
    order = list(names)
    differences = {
        "lacks": [name for name in classes if name not in order],
        "has besides": [name for name in order if name not in classes],
        "has twice": sorted({name for name in order if order.count(name) > 1}),
    }
    if any(differences.values()):
        facts = [f"{word} {some_of(values)}" for word, values in differences.items() if values]
        raise UnusableModelError(
            f"the predictor names other classes than the data: it {', '.join(facts)}; "
            "name its classes in its own order, with the data's names: "
            f"{some_of(classes)}",
            setting="classes",
        )
    return np.array([order.index(name) for name in classes], dtype=np.int64)


def expect_order(predictions: Predictions, order: np.ndarray | None = None) -> None:
    """Raise an error if predictions have another order of the classes, see `other_order`.

    Args:
        predictions: Predictions of clean images.
        order: The assumed positions of the data's classes, (classes,) int64; None for the same
            positions.

    Raises:
        UnusableModelError: The classes are in another order.
    """
    other = other_order(predictions)
    if other is None:
        return

    predicted_as, sentence = other
    if order is None:
        order = np.arange(len(predicted_as))
    own_names = np.empty(len(predicted_as), dtype=object)
    own_names[order[predicted_as]] = predictions.classes
    raise UnusableModelError(
        f"its classes are in another order: {sentence}; "
        f"name its classes in its own order: {','.join(own_names)}",
        setting="classes",
    )


def other_order(predictions: Predictions) -> tuple[np.ndarray, str] | None:
    """Return another order of the classes if only that explains the predictions.

    Most images of a cycle's classes are predicted as the class in their place, and three quarters
    of its classes are clear. Most images of a clear class have its new place, most with that place
    are of the class, and a guess would not do so. A model that prefers a class has no such cycle,
    whatever the sizes of classes. At most a fifth as many images as the cycle explains may be
    correct. By the other order, half of all must be.

    Returns:
        The class that a model predicts each class as, (classes,) int64, and a sentence. None if the
        order of the data holds.
    """
    from scipy.optimize import linear_sum_assignment

    classes, labels = predictions.classes, predictions.labels
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (labels, predictions.predicted), 1)
    own, predicted_as = linear_sum_assignment(table, maximize=True)
    explained = table[own, predicted_as]
    counts = table.sum(axis=1)

    clear = _clear_classes(table, predicted_as)
    moved = np.zeros(len(classes), dtype=bool)
    for cycle in _cycles(predicted_as):
        explained_by_cycle = explained[cycle].sum()
        most = 2 * explained_by_cycle > counts[cycle].sum()
        few_correct = _LEAST_QUOTIENT * table[cycle, cycle].sum() <= explained_by_cycle
        enough_clear = clear[cycle].mean() >= _LEAST_CLEAR
        moved[cycle] = len(cycle) > 1 and most and few_correct and enough_clear

    predicted_as = np.where(moved, predicted_as, own)
    correct_by_other = table[own, predicted_as].sum()
    if not moved.any() or correct_by_other < _LEAST_ACCURACY * len(labels):
        return None
    changes = [
        f"{classes[label]} as {classes[predicted_as[label]]} "
        f"({explained[label]} of {counts[label]})"
        for label in own[moved]
    ]
    return predicted_as, f"it predicts most clean images of {some_of(changes)}"


def _clear_classes(table: np.ndarray, predicted_as: np.ndarray) -> np.ndarray:
    """Return which classes have a clear place in another order, (classes,) bool.

    Args:
        table: Numbers of images by class and predicted class, (classes, classes).
        predicted_as: The place of each class, (classes,).
    """
    from scipy.special import bdtrc

    explained = table[np.arange(len(table)), predicted_as]
    counts = table.sum(axis=1)
    predictions_of_place = table.sum(axis=0)[predicted_as]

    probability_by_guess = bdtrc(explained - 1, counts, predictions_of_place / table.sum())
    most_in_place = 2 * explained > np.maximum(counts, predictions_of_place)
    return np.asarray((counts >= _LEAST_IMAGES) & most_in_place & ~(probability_by_guess > _CHANCE))


def _cycles(places: np.ndarray) -> list[list[int]]:
    """Return the cycles of a permutation, (N,) int64."""
    cycles = []
    unvisited = set(range(len(places)))
    while unvisited:
        cycle = [unvisited.pop()]
        while (place := int(places[cycle[-1]])) in unvisited:
            unvisited.remove(place)
            cycle.append(place)
        cycles.append(cycle)
    return cycles
