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
"""Tenths of the images with a stratum of their own, the least confident first.

All other images are one stratum.
"""


@dataclass(frozen=True, eq=False)
class ConfidenceStrata:
    """Samples with strata by the confidence of a model, such as the incumbent, on clean images.

    `predict` returns the model's predictions of images.
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
        doubts = 1 - self.predict(images).confidence.astype(np.float64)
        least_confident_first = np.argsort(-doubts, kind="stable")
        tenths = np.arange(len(images)) * 10 // len(images)
        strata = np.empty(len(images), dtype=np.int64)
        strata[least_confident_first] = np.minimum(tenths, _TENTHS)

        # The share of errors of a stratum is planned as its mean of 1 - p.
        count = _TENTHS + 1
        sizes = np.maximum(np.bincount(strata, minlength=count), 1)
        error_rates = np.bincount(strata, doubts, count) / sizes
        return weighted_sample(
            images,
            size,
            of=strata,
            unseen=strata,
            deviations=planned_deviations(error_rates),
            seed=seed,
        )
