"""Strata by a model's confidence, for samples where no votes of reference models exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.data.images import weighted_sample
from harness.measures.panel.predictions import planned_deviations

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
        of[np.argsort(-doubt, kind="stable")] = np.minimum(
            np.arange(len(images)) * 10 // len(images), _TENTHS
        )
        rate = np.bincount(of, doubt, _TENTHS + 1) / np.maximum(
            np.bincount(of, minlength=_TENTHS + 1), 1
        )
        return weighted_sample(
            images, size, of=of, unseen=of, deviations=planned_deviations(rate), seed=seed
        )
