"""The kind of a predictor's scores: declared, or beyond doubt by its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

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
