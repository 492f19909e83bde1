"""What a model says of images, and what follows from it alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.perturb import Perturbation


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N images under one perturbation; `logits` is (N, classes) float32.

    Predicted classes, and the confidences of wrong answers, are those of a float32 forward pass; the logits of clear
    and right answers may have been computed in bfloat16, see `Engine`.
    """

    logits: np.ndarray
    images: LabelledImages
    perturbation: Perturbation

    @property
    def labels(self) -> np.ndarray:
        """Return the true classes, (N,) int64."""
        return self.images.labels.numpy()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.images.classes

    def perturbation_of(self, position: int) -> Perturbation:  # noqa: ARG002  The same for every image.
        """Return the perturbation under which the image at this position was seen."""
        return self.perturbation

    @cached_property
    def predicted(self) -> np.ndarray:
        """Return the predicted class of each image, (N,) int64."""
        return np.asarray(self.logits.argmax(axis=1))

    @cached_property
    def correct(self) -> np.ndarray:
        """Return whether each prediction is right, (N,) bool."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Return the softmax of the logits, (N, classes) in [0, 1]."""
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    @cached_property
    def confidence(self) -> np.ndarray:
        """Return the probability of each predicted class, (N,) in [0, 1]."""
        return np.asarray(self.probabilities.max(axis=1))
