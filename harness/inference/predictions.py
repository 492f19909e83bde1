"""Predictions of a model for images, and quantities that follow only from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.inference.predictors.protocol import NO_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages
    from harness.perturb import Perturbation


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of a model for N images under one perturbation.

    `answers` are logits, (N, classes) float32. The class of the largest is that of float32; the
    values may be less precise, see `Backend`. `exact` computes the logits at some positions, (M,)
    int64, in float32. Without it the answers are exact.
    """

    answers: np.ndarray
    images: LabelledImages
    perturbation: Perturbation
    exact: Callable[[np.ndarray], np.ndarray] | None = field(default=None, repr=False)
    known: int | None = None
    """The number of leading classes with a known probability: 0 for labels only.

    None for every class.
    """
    scored: bool = False
    """True if the answers are a score for each image, the same in each column, and no classes."""

    def expect_classes(self) -> None:
        """Raise `NotApplicableError` if there is a score for each image, and no predicted class."""
        if self.scored:
            raise NotApplicableError(NO_CLASSES)

    def expect_known(self, least: int | None = None) -> None:
        """Raise `NotApplicableError` unless every class has a known probability.

        As many leading ones as `least` are enough, too.
        """
        self.expect_classes()
        if self.known == 0:
            raise NotApplicableError("the predictor returns labels only")
        if self.known is not None and (least is None or self.known < least):
            raise NotApplicableError(
                f"the predictor returns the top {self.known} classes only, the rest is unknown"
            )

    @property
    def has_confidence(self) -> bool:
        """Return whether the probability of each predicted class is known."""
        return self.known != 0 and not self.scored

    @cached_property
    def computed(self) -> np.ndarray:
        """Return the logits, (N, classes) float32, known or not.

        Costs a forward pass if answers are inexact.
        """
        return self.exact(np.arange(len(self.labels))) if self.exact else self.answers

    @property
    def logits(self) -> np.ndarray:
        """Return the logits, (N, classes) float32.

        Raises:
            NotApplicableError: Unless all are known.
        """
        self.expect_known()
        return self.computed

    @cached_property
    def errors(self) -> np.ndarray:
        """Return the logits of wrong predictions, (wrong, classes) float32.

        Costs a forward pass of their images.
        """
        wrong = np.flatnonzero(~self.correct)
        if self.exact is None or not len(wrong):
            return self.answers[wrong]
        return self.computed[wrong] if "computed" in self.__dict__ else self.exact(wrong)

    def exactly(self, positions: np.ndarray) -> np.ndarray:
        """Return the logits at these positions, (M,) int64, in float32.

        They are `errors` if all are wrong, else `logits`.
        """
        if self.correct[positions].any():
            return np.asarray(self.computed[positions])
        return np.asarray(self.errors[(np.cumsum(~self.correct) - 1)[positions]])

    @property
    def labels(self) -> np.ndarray:
        """Return the true classes, (N,) int64."""
        return self.images.labels.numpy()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.images.classes

    def perturbation_of(self, position: int) -> Perturbation:  # noqa: ARG002  The same for every image.
        """Return the perturbation of the image at this position."""
        return self.perturbation

    @cached_property
    def predicted(self) -> np.ndarray:
        """Return the predicted class of each image, (N,) int64.

        Raises:
            NotApplicableError: For scores.
        """
        self.expect_classes()
        return np.asarray(self.answers.argmax(axis=1))

    @cached_property
    def correct(self) -> np.ndarray:
        """Return whether each prediction is correct, (N,) bool.

        Raises:
            NotApplicableError: For scores.
        """
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def image_scores(self) -> np.ndarray:
        """Return the score of each image, (N,) float64 in [0, 1].

        Raises:
            NotApplicableError: For classes.
        """
        if not self.scored:
            raise NotApplicableError("the predictor gives classes and no score for each image")
        return np.asarray(self.answers[:, 0], dtype=np.float64)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Return the softmax of the logits, (N, classes) in [0, 1]; see `logits`."""
        return softmax(self.logits)

    @property
    def log_probabilities(self) -> np.ndarray:
        """Return the logarithm of the softmax of the logits, (N, classes) float64; see `logits`."""
        from scipy.special import log_softmax

        return np.asarray(log_softmax(self.logits.astype(np.float64), axis=1))

    @cached_property
    def confidence(self) -> np.ndarray:
        """Return the probability of each predicted class, (N,) in [0, 1]."""
        self.expect_known(1)
        return np.asarray(softmax(self.computed).max(axis=1))

    def confidence_of_errors(self) -> np.ndarray:
        """Return the probability of each wrong prediction, and 0 for correct ones, (N,) in [0, 1].

        Costs a forward pass of the wrong images if the answers are not exact. Raises
        `NotApplicableError` if only labels are known.
        """
        self.expect_known(1)
        confidence = np.zeros(len(self.labels), dtype=self.answers.dtype)
        confidence[~self.correct] = softmax(self.errors).max(axis=1, initial=0)
        return confidence

    @cached_property
    def confidence_as_answered(self) -> np.ndarray:
        """Return the approximate confidence, (N,) in [0, 1], of possibly inexact answers.

        Costs no forward pass.
        """
        self.expect_classes()
        return np.asarray(softmax(self.answers).max(axis=1))

    def probabilities_at(self, positions: np.ndarray) -> np.ndarray:
        """Return the softmax of the logits, (M, classes) in [0, 1], at these positions, (M,) int64.

        If all these predictions are wrong, it costs a forward pass of the wrong images only.
        """
        return softmax(self.exactly(positions))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, (N, classes), in their precision."""
    from scipy import special

    return np.asarray(special.softmax(logits, axis=1))
