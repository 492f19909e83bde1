"""Strata by a model's confidence, for samples where no votes of reference models exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.data.images import weighted_sample
from harness.measures.panel.predictions import PLANNED_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages
    from harness.inference import Predictions

_TENTHS = 5
"""Tenths of the images with a stratum of their own, the least confident first; all others are one stratum."""


@dataclass(frozen=True, eq=False)
class ConfidenceStrata:
    """Samples with strata by the confidence of a model, such as the incumbent, in its predictions of clean images.

    `predict` returns the model's predictions of images. A stratum's share of errors is planned as its mean 1 - p.
    """

    predict: Callable[[LabelledImages], Predictions]

    def weighted_sample(
        self,
        images: LabelledImages,
        size: int,
        *,
        clean: Callable[[], Predictions],  # noqa: ARG002  As of panel predictions.
        seed: int = 0,
    ) -> LabelledImages:
        """Return a sample of `size` images; raises as the model does."""
        doubt = 1 - self.predict(images).confidence.astype(np.float64)
        of = np.empty(len(images), dtype=np.int64)
        of[np.argsort(-doubt, kind="stable")] = np.minimum(np.arange(len(images)) * 10 // len(images), _TENTHS)
        strata = range(_TENTHS + 1)
        rate = np.array([doubt[of == each].mean() if (of == each).any() else 0.0 for each in strata])
        rate = np.maximum(rate, PLANNED_ERRORS)
        return weighted_sample(images, size, of=of, unseen=of, deviations=np.sqrt(rate * (1 - rate)), seed=seed)
