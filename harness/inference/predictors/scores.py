"""The kind of a predictor's scores: declared, compared with its answers, and never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from harness.base.errors import UnusableModelError
from harness.inference.predictors.protocol import PredictorError

if TYPE_CHECKING:
    from harness.inference.predictors.protocol import Scores

SUMS_TO_ONE = 1e-3
"""The largest distance of the sum of an image's probabilities from one."""
_KNOWN = ("logits", "probabilities", "labels")


def declared_scores(answers: np.ndarray, setting: str | None, own: str | None, *, top: int | None = None) -> Scores:
    """Return the kind of scores of a predictor, by its `own` declaration, else by the setting model-outputs.

    `answers` are its first ones; the shape (N,) means labels. The setting is for all models of a run. A predictor that
    declares its scores does not need it, nor do labels and top classes. Raises `InputError` for undeclared scores
    that look like probabilities. Raises `PredictorError` for a declaration that is unknown, or that its answers
    contradict.
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
        return "labels"
    if top is not None:
        return "probabilities"
    declared = own or setting
    if declared is None and answers.ndim > 1 and answers.shape[1] > 1:
        sums = answers.sum(axis=1)
        if bool((answers >= 0).all()) and bool((np.abs(sums - 1) < SUMS_TO_ONE).all()):
            raise UnusableModelError(
                "its outputs look like probabilities, 0 to 1 with a sum of 1 for each image, but are not declared. Set "
                "model-outputs probabilities, or model-outputs logits if they are logits"
            )
    return cast("Scores", declared or "logits")
