"""What a model says of images, and what follows from it alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages
    from harness.perturb import Perturbation


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N images under one perturbation.

    `answers` are logits, (N, classes) float32. Which is the largest, and all of a wrong answer's, are as float32
    computes them; the rest may have been computed in less, see `Backend`. `exact` computes them all in float32;
    without it the answers are exact.
    """

    answers: np.ndarray
    images: LabelledImages
    perturbation: Perturbation
    exact: Callable[[], np.ndarray] | None = field(default=None, repr=False)

    @cached_property
    def logits(self) -> np.ndarray:
        """Return the logits, (N, classes) float32; costs another forward pass where the answers are not exact."""
        return self.exact() if self.exact else self.answers

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
        return np.asarray(self.answers.argmax(axis=1))

    @cached_property
    def correct(self) -> np.ndarray:
        """Return whether each prediction is right, (N,) bool."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Return the softmax of the logits, (N, classes) in [0, 1]."""
        return softmax(self.logits)

    @cached_property
    def confidence(self) -> np.ndarray:
        """Return the probability of each predicted class, (N,) in [0, 1]."""
        return np.asarray(self.probabilities.max(axis=1))

    def confidence_of_errors(self) -> np.ndarray:
        """Return the probability of each predicted class where it is wrong, and 0 elsewhere, (N,) in [0, 1].

        Costs no forward pass.
        """
        confidence = np.zeros(len(self.labels), dtype=self.answers.dtype)
        confidence[~self.correct] = softmax(self.answers[~self.correct]).max(axis=1, initial=0)
        return confidence

    def probabilities_at(self, positions: np.ndarray) -> np.ndarray:
        """Return the softmax of the logits at these positions, (M,) int64; returns (M, classes) in [0, 1].

        Costs no forward pass when all these answers are wrong.
        """
        return softmax((self.logits if self.correct[positions].any() else self.answers)[positions])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, (N, classes), in their precision."""
    from scipy import special

    return np.asarray(special.softmax(logits, axis=1))
