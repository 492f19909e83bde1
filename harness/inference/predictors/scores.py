"""The scores of a predictor: their kind, declared or beyond doubt, and the validation of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from harness.base.errors import some_of
from harness.inference.predictors.protocol import PredictorError, Provides

if TYPE_CHECKING:
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
