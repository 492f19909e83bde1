"""Answers of a predictor, verified: repeated requests, the order of its classes, and the kind of its scores."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, cast

import numpy as np
from scipy.optimize import linear_sum_assignment

from harness.base.errors import UnusableModelError, some_of
from harness.inference.predictors.protocol import PredictorError, Provides

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.inference.predictions import Predictions
    from harness.inference.predictors.protocol import Scores


SUMS_TO_ONE = 1e-3
"""The largest distance of the sum of an image's probabilities from one."""
_TAKEN = "its first outputs are 0 to 1 with sums of 1, so they are probabilities; if not, set model_outputs logits"
_KNOWN = ("logits", "probabilities", "labels")


def provided(answers: np.ndarray, setting: str | None, own: str | None, *, top: int | None = None) -> Provides:
    """Return the kind of answers of a predictor, by its `own` declaration, else by the setting model_outputs.

    `answers` are its first ones; the shape (N,) means labels. The setting is for all models of a run. A predictor that
    declares its scores does not need it, nor do labels and top classes. Undeclared scores are probabilities if all are
    from 0 to 1 and sum to one for each image; a note says so. Raises `PredictorError` for a declaration that is
    unknown, or that its answers contradict.
    """
    if own is not None and own not in _KNOWN:
        raise PredictorError(f"declares outputs = {own!r}, expected {', '.join(_KNOWN)}")
    if top is not None and own not in {None, "probabilities"}:
        raise PredictorError(
            f"declares the top {top} classes and {own}; the scores of top classes must be probabilities"
        )
    if answers.ndim == 1:
        if own not in {None, "labels"}:
            raise PredictorError(f"declares {own}, but returned labels, an array of shape {answers.shape}")
        return Provides("labels", top=top)
    declared = "probabilities" if top is not None else own or setting
    if declared is None and answers.ndim > 1 and answers.shape[1] > 1:
        sums = answers.sum(axis=1)
        if bool((answers >= 0).all()) and bool((np.abs(sums - 1) < SUMS_TO_ONE).all()):
            return Provides("probabilities", note=_TAKEN)
    return Provides(cast("Scores", declared or "logits"), top=top)


def checked(answers: np.ndarray, scores: str, *, images: int, classes: int | None, top: bool = False) -> np.ndarray:
    """Return the answers for N images as labels, (N,) int64, or as other scores, (N, classes) float32.

    Raises `PredictorError` for another type or shape, for labels that are no class, and for scores that are not finite.
    NaN stands for unknown probabilities of the `top` classes. None stands for any number of classes.
    """
    if scores == "labels":
        if answers.shape != (images,) or not np.issubdtype(answers.dtype, np.integer):
            raise PredictorError(f"its labels are {answers.dtype} of shape {answers.shape}, expected {images} integers")
        most = (np.iinfo(np.int64).max if classes is None else classes) - 1
        outside = (answers < 0) | (answers > most)
        if outside.any():
            found = some_of([str(each) for each in np.unique(answers[outside])])
            raise PredictorError(
                f"{outside.sum()} of {images} labels are no class: {found}; the data have classes 0 to {most}"
            )
        return answers.astype(np.int64)
    if not np.issubdtype(answers.dtype, np.floating):
        raise PredictorError(f"its {scores} are {answers.dtype} of shape {answers.shape}, expected floats")
    if answers.ndim != 2 or answers.shape != (images, answers.shape[1] if classes is None else classes):  # noqa: PLR2004
        expected = f"({images}, {'classes' if classes is None else classes})"
        raise PredictorError(f"its {scores} have the shape {answers.shape} for {images} images, expected {expected}")
    with np.errstate(over="ignore"):  # Values beyond the range of float32 become infinite.
        answers = answers.astype(np.float32, copy=False)
    if not top and (wrong := int((~np.isfinite(answers)).any(axis=1).sum())):
        raise PredictorError(f"its {scores} have NaN or infinity for {wrong} of {images} images")
    return answers


_LEAST = 5
"""Least images of a class for a statement on the order."""


def order_of(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the positions of the data's classes in a predictor's order, (classes,) int64.

    Raises `InputError` unless the names are those of the data, each once.
    """
    lacking = [each for each in classes if each not in names]
    unknown = [each for each in names if each not in classes]
    if lacking or unknown or len(set(names)) < len(names):
        twice = sorted({each for each in names if list(names).count(each) > 1})
        facts = (("lacks", lacking), ("has besides", unknown), ("has twice", twice))
        found = ", ".join(f"{word} {some_of(values)}" for word, values in facts if values)
        raise UnusableModelError(
            f"the predictor names other classes than the data: it {found}; name its classes in its own order, with the "
            f"data's names: {some_of(classes)}",
            setting="classes",
        )
    return np.array([list(names).index(each) for each in classes], dtype=np.int64)


def expect_order(predictions: Predictions, order: np.ndarray | None = None) -> None:
    """Raise `InputError` if a permutation of classes explains the predictions of clean images.

    In such a permutation, most images of every moved class are predicted as the class in its place. `order` has the
    assumed positions of the data's classes, (classes,) int64; None for the same positions.
    """
    classes, labels = predictions.classes, predictions.labels
    table = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(table, (labels, predictions.predicted), 1)
    _, seen_as = linear_sum_assignment(table, maximize=True)
    counts = table.sum(axis=1)
    moved = [at for at in range(len(classes)) if seen_as[at] != at and counts[at]]
    if not moved or any(counts[at] < _LEAST or table[at, seen_as[at]] * 2 <= counts[at] for at in moved):
        return
    said = [f"{classes[at]} as {classes[seen_as[at]]} ({table[at, seen_as[at]]} of {counts[at]})" for at in moved]
    own = np.empty(len(classes), dtype=object)
    own[(np.arange(len(classes)) if order is None else order)[seen_as]] = classes
    raise UnusableModelError(
        f"its classes are in another order: it predicts most clean images of {some_of(said)}; name its classes in "
        f"its own order: {','.join(own)}",
        setting="classes",
    )


SAME = 0.02
"""Largest difference of an image's scores between two predictions, as a share of the range of all compared scores."""
ANCHORS = 16
"""Number of images from earlier audits that are repeated again."""
RAREST = 32
"""Most batches between two audits; the first audit comes after one batch."""


class Audit:
    """Images for a second request: one of each batch since the last audit, drawn at random, or all of a larger batch.

    Each image has another place than before. A server that mixes up its predictions, or errs at one place of its
    batches, therefore gives different ones. An image of an earlier audit is among them, so a change of the server's
    model also gives a different prediction. The first such images are `probes`. Threads may share an audit.
    """

    def __init__(self, probes: np.ndarray, answers: np.ndarray) -> None:
        self._anchors = list(zip(probes, answers, strict=True))
        self._random = random.Random(0)  # noqa: S311  Not for cryptography.
        self._lock = threading.Lock()
        self._drawn: list[tuple[np.ndarray, np.ndarray]] = []
        self._new: set[bytes] = set()
        self.unconfirmed: set[bytes] = set()
        """The keys of all predictions that no audit has confirmed."""
        self._after, self.largest = 1, 1

    def note(self, images: np.ndarray, answers: np.ndarray, keys: Iterable[bytes]) -> bool:
        """Draw one image of a batch and note the keys of all; returns whether an audit is due."""
        with self._lock:
            larger = len(images) > self.largest
            at = range(len(images)) if larger else [self._random.randrange(len(images))]
            self._drawn += [(images[place], answers[place]) for place in at]
            self.largest = max(self.largest, len(images))
            self._new |= {*keys}
            self.unconfirmed |= self._new
            return len(self._drawn) >= self._after

    def begin(self) -> tuple[np.ndarray, np.ndarray, set[bytes]] | None:
        """Return images in another order, their predictions, and the keys of all images since; None without any."""
        with self._lock:
            if not self._drawn:
                return None
            drawn, keys = self._drawn, self._new
            self._drawn, self._new, self._after = [], set(), min(RAREST, 2 * self._after)
            anchor = self._random.choice(self._anchors)
            if len(self._anchors) < ANCHORS:
                self._anchors.append(drawn[0])
            first = self._random.randrange(1, len(drawn) + 1)
            drawn = [*drawn[first:], anchor, *drawn[:first]]
        images, answers = zip(*drawn, strict=True)
        return np.stack(images), np.stack(answers), keys


def differing(before: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Return which predictions differ, (N,) bool: another label, or a difference of scores beyond `SAME`."""
    if before.shape != again.shape or before.dtype != again.dtype:
        return np.ones(len(before), dtype=bool)
    if np.issubdtype(before.dtype, np.integer):
        return np.asarray(before != again)
    return np.asarray(np.abs(before - again).max(axis=1, initial=0) > SAME * np.ptp(before))
