"""Answers of predictors: their kind, their validation, the order of their classes, and the logits made of them."""

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
_TAKEN = "its first outputs are 0 to 1 with sums of 1, so they are probabilities; if not, set model_outputs logits"
_KNOWN = ("logits", "probabilities", "labels", "scores")
_LEAST, _CHANCE = 5, 1e-3
"""Least images of a clear class, and most probability that a guess puts as many in its place; a swap has the square."""
_FEWER, _EXPLAINED, _CLEAR = 5, 1 / 2, 3 / 4
"""Least quotient of correct images by another order and by the data's, accuracy by the other, share of clear ones."""


def provided(
    answers: np.ndarray, setting: str | None, own: Any = None, *, top: Any = None
) -> Provides:
    """Return the kind of answers of a predictor, by its `own` declaration, else by the setting model_outputs.

    `answers` are its first ones; the shape (N,) means labels. The setting is for all models of a run. A predictor that
    declares its scores does not need it, nor do labels and top classes. Undeclared scores are probabilities if all are
    from 0 to 1 and sum to one for each image; a note says so. Raises `PredictorError` for a declaration that is
    unknown, or that its answers contradict.
    """
    if own not in (None, *_KNOWN):
        raise PredictorError(f"declares outputs = {own!r}, expected {', '.join(_KNOWN)}")
    if top is not None and (type(top) is not int or top < 1):
        raise PredictorError(f"declares top = {top!r}, expected a number of classes, 1 or more")
    if top is not None and own not in {None, "probabilities"}:
        raise PredictorError(
            f"declares the top {top} classes and {own}; the scores of top classes must be probabilities"
        )
    if own == "scores":
        return Provides("scores")
    if answers.ndim == 1:
        if own not in {None, "labels"}:
            raise PredictorError(
                f"declares {own}, but returned labels, an array of shape {answers.shape}"
            )
        return Provides("labels", top=top)
    declared = "probabilities" if top is not None else own or setting
    if (
        declared is None
        and answers.ndim > 1
        and answers.shape[1] > 1
        and not _no_probabilities(answers).any()
    ):
        return Provides("probabilities", note=_TAKEN)
    return Provides(cast("Scores", declared or "logits"), top=top)


def checked(
    answers: np.ndarray, scores: str, *, images: int, classes: int | None, top: bool = False
) -> np.ndarray:
    """Return the answers for N images as labels, (N,) int64, or as other scores, (N, classes) float32.

    Raises `PredictorError` for another type or shape, for labels that are no class, and for scores that are not finite.
    NaN stands for unknown probabilities of the `top` classes. None stands for any number of classes.
    """
    if scores == "labels":
        if answers.shape != (images,) or not np.issubdtype(answers.dtype, np.integer):
            raise PredictorError(
                f"its labels are {answers.dtype} of shape {answers.shape}, expected {images} integers"
            )
        most = (np.iinfo(np.int64).max if classes is None else classes) - 1
        outside = (answers < 0) | (answers > most)
        if outside.any():
            found = some_of([str(each) for each in np.unique(answers[outside])])
            raise PredictorError(
                f"{outside.sum()} of {images} labels are no class: {found}; the data have classes 0 to {most}"
            )
        return answers.astype(np.int64)
    if not np.issubdtype(answers.dtype, np.floating):
        raise PredictorError(
            f"its {scores} are {answers.dtype} of shape {answers.shape}, expected floats"
        )
    if answers.ndim != 2 or answers.shape != (  # noqa: PLR2004
        images,
        answers.shape[1] if classes is None else classes,
    ):
        expected = f"({images}, {'classes' if classes is None else classes})"
        raise PredictorError(
            f"its {scores} have the shape {answers.shape} for {images} images, expected {expected}"
        )
    with np.errstate(over="ignore"):  # Values beyond the range of float32 become infinite.
        answers = answers.astype(np.float32, copy=False)
    if not top and (wrong := int((~np.isfinite(answers)).any(axis=1).sum())):
        raise PredictorError(f"its {scores} have NaN or infinity for {wrong} of {images} images")
    return answers


def checked_scores(scores: np.ndarray, *, images: int) -> np.ndarray:
    """Return a score of each image, (N,) float32; raises `PredictorError` unless all are numbers in [0, 1]."""
    if scores.dtype.kind not in "biuf" or scores.shape != (images,):
        raise PredictorError(
            f"its scores are {scores.dtype} of shape {scores.shape}, expected {images} numbers from 0 to 1, one for "
            "each image"
        )
    if missing := int(np.isnan(scores.astype(np.float64)).sum()):
        raise PredictorError(
            f"{missing} of {images} scores are NaN; give a score for each image, such as 0 where nothing was found"
        )
    outside = (scores < 0) | (scores > 1)
    if outside.any():
        examples = some_of([f"{score:g}" for score in np.unique(scores[outside])])
        raise PredictorError(
            f"{outside.sum()} of {images} scores are outside of 0 to 1: {examples}; rescale them, so that 1 is best"
        )
    return scores.astype(np.float32)


def as_logits(answers: np.ndarray, provides: Provides, *, images: int, classes: int) -> np.ndarray:
    """Return logits, (N, classes) float32, of a predictor's answers for N images.

    The softmax of the logits gives the predictor's probabilities. A label becomes logits with the largest at the label,
    and a score of an image stands in every column, which no order of classes changes.
    Raises `PredictorError` for invalid answers, see `checked`, and for probabilities that do not sum to one.
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
    if wrong := int(_no_probabilities(answers).sum()):
        sums = answers.sum(axis=1)
        raise PredictorError(
            f"the predictor's probabilities are {answers.min():.3g} to {answers.max():.3g} with sums of "
            f"{sums.min():.3g} to {sums.max():.3g}, expected a sum of 1 ({wrong} of {images} images are wrong). "
            "Declare logits with model_outputs logits, or return probabilities"
        )
    return np.asarray(np.log(np.maximum(answers, _SMALLEST)))


def are_probabilities(scores: np.ndarray) -> bool:
    """Return whether scores, (N, classes), are probabilities: none below 0, and a sum of one for each image."""
    return not _no_probabilities(scores).any()


def _no_probabilities(scores: np.ndarray) -> np.ndarray:
    """Return which images have scores that are no probabilities, (N,) bool."""
    return np.asarray(
        ~((np.abs(scores.sum(axis=1) - 1) <= _SUMS_TO_ONE) & (scores >= 0).all(axis=1))
    )


def _completed(answers: np.ndarray, top: int) -> np.ndarray:
    """Return probabilities in which the unknown classes share the rest up to a sum of one."""
    unknown = np.isnan(answers)
    known = (~unknown).sum(axis=1)
    if (known < min(1, top)).any() or (known > top).any():
        raise PredictorError(
            f"the predictor declared the top {top} classes, but returned {known.min()} to {known.max()} of them"
        )
    rest = np.maximum(0, 1 - np.nansum(answers, axis=1))
    least = np.nanmin(answers, axis=1)
    share = np.minimum(
        rest / np.maximum(1, unknown.sum(axis=1)), np.nextafter(least, np.float32(0))
    )
    return np.where(unknown, share[:, None], answers)


def order_of(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the positions of the data's classes in a predictor's order, (classes,) int64.

    Raises `InputError` unless the names are those of the data, each once.
    """
    facts = {
        "lacks": [each for each in classes if each not in names],
        "has besides": [each for each in names if each not in classes],
        "has twice": sorted({each for each in names if list(names).count(each) > 1}),
    }
    if any(facts.values()):
        found = ", ".join(f"{word} {some_of(values)}" for word, values in facts.items() if values)
        raise UnusableModelError(
            f"the predictor names other classes than the data: it {found}; name its classes in its own order, with the "
            f"data's names: {some_of(classes)}",
            setting="classes",
        )
    return np.array([list(names).index(each) for each in classes], dtype=np.int64)


def expect_order(predictions: Predictions, order: np.ndarray | None = None) -> None:
    """Raise `InputError` if the predictions of clean images have another order of the classes, see `other_order`.

    `order` has the assumed positions of the data's classes, (classes,) int64; None for the same positions.
    """
    if not (found := other_order(predictions)):
        return
    seen_as, said = found
    own = np.empty(len(seen_as), dtype=object)
    own[(np.arange(len(own)) if order is None else order)[seen_as]] = predictions.classes
    raise UnusableModelError(
        f"its classes are in another order: {said}; name its classes in its own order: {','.join(own)}",
        setting="classes",
    )


def other_order(predictions: Predictions) -> tuple[np.ndarray, str] | None:
    """Return the class that a model predicts each class as, and a sentence, if only a permutation explains predictions.

    Most images of a cycle's classes are predicted as the class in their place, and three quarters of its classes are
    clear. Most images of a clear class have its new place, most with that place are of the class, and a guess would not
    do so. A model that prefers a class has no such cycle, whatever the sizes of classes. At most a fifth as many images
    as the cycle explains may be correct. By the other order, half of all must be.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.special import bdtrc

    classes, labels = predictions.classes, predictions.labels
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (labels, predictions.predicted), 1)
    own, seen_as = linear_sum_assignment(table, maximize=True)
    explained, counts, answers = table[own, seen_as], table.sum(axis=1), table.sum(axis=0)[seen_as]
    guessed = bdtrc(explained - 1, counts, answers / len(labels)) > _CHANCE
    clear = (counts >= _LEAST) & (2 * explained > np.maximum(counts, answers)) & ~guessed
    moved, left = np.zeros(len(classes), dtype=bool), set(range(len(classes)))
    while left:
        cycle = [left.pop()]
        while (place := int(seen_as[cycle[-1]])) in left:
            left.remove(place)
            cycle.append(place)
        by_it = explained[cycle].sum()
        plainly = 2 * by_it > counts[cycle].sum() and _FEWER * table[cycle, cycle].sum() <= by_it
        moved[cycle] = len(cycle) > 1 and plainly and clear[cycle].mean() >= _CLEAR
    seen_as = np.where(moved, seen_as, own)
    if not moved.any() or table[own, seen_as].sum() < _EXPLAINED * len(labels):
        return None
    said = [
        f"{classes[at]} as {classes[seen_as[at]]} ({explained[at]} of {counts[at]})"
        for at in own[moved]
    ]
    return seen_as, f"it predicts most clean images of {some_of(said)}"
