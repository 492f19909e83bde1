"""The probability of the label, and its change between two views of the same image.

With few reference models, a mean of probabilities tells more than accuracy. Each image contributes
to it, not only those near the decision boundary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.measures.metric import Measurement, Metric, Unit, mean_of, mean_over, one_in
from harness.measures.selection import expect_same_images, ordered

if TYPE_CHECKING:
    from harness.inference import Predictions

LABEL_PROBABILITY = Metric(
    "label_probability",
    Unit.SHARE,
    better="more",
    words="mean probability of the label",
    weighted=True,
    at_chance=one_in,
)
LOG_LOSS = Metric(
    "log_loss",
    Unit.SCORE,
    better="less",
    words="log loss",
    weighted=True,
    about="mean negative logarithm of the label's probability, on images under a perturbation",
    at_chance=math.log,
)
LABEL_PROBABILITY_CHANGE = Metric(
    "label_probability_change",
    Unit.DIFFERENCE,
    better="more",
    words="change of the label's mean probability from the clean images",
    weighted=True,
    of_probabilities=True,
)
LOG_LOSS_CHANGE = Metric(
    "log_loss_change",
    Unit.SCORE,
    better="less",
    words="change of the log loss from the clean images",
    range=(-np.inf, np.inf),
    weighted=True,
    of_probabilities=True,
)


def label_probability(predictions: Predictions, *, clean: Predictions | None = None) -> Measurement:
    """Return the mean probability of the label, in [0, 1].

    The failures are the images that lose probability against `clean`, most first.

    Args:
        predictions: Predictions with logits for all classes.
        clean: Predictions of the same images without a perturbation, for images that have one.
    """
    probabilities = _label_probabilities(predictions)
    if clean is None:
        return mean_of(LABEL_PROBABILITY, probabilities, images=predictions.images)
    clean_probabilities = _label_probabilities(clean)
    change = probabilities - clean_probabilities
    return mean_of(
        LABEL_PROBABILITY,
        probabilities,
        images=predictions.images,
        failures=ordered(change < 0, change),
        rest=mean_over(clean.images, clean_probabilities),
    )


def log_loss(predictions: Predictions, *, clean: Predictions) -> Measurement:
    """Return the mean of -log p(label) of images under a perturbation, in nats, at least 0.

    The source is Good (1952), "Rational Decisions".

    Args:
        predictions: Predictions with logits for all classes.
        clean: Predictions of the same images without a perturbation.
    """
    losses = _losses(predictions)
    return mean_of(
        LOG_LOSS, losses, images=predictions.images, rest=mean_over(clean.images, _losses(clean))
    )


def label_probability_change(clean: Predictions, view: Predictions) -> Measurement:
    """Return the mean gain of the label's probability in a view, in [-1, 1].

    It is the probability there minus that in the clean image. The difficulty of an image cancels.
    The rest shows how well a model knows the perturbation.

    The failures are the images that lose probability, most first.
    """
    expect_same_images("change of the label's probability", clean, view, alike=False)
    change = _label_probabilities(view) - _label_probabilities(clean)
    return mean_of(
        LABEL_PROBABILITY_CHANGE,
        change,
        images=view.images,
        failures=ordered(change < 0, change),
        rest=0.0,
    )


def log_loss_change(clean: Predictions, view: Predictions) -> Measurement:
    """Return the mean over images of the log loss in a view minus that of the clean image, in nats.

    The failures are the images whose loss rises, most first.
    """
    expect_same_images("change of the log loss", clean, view, alike=False)
    change = _losses(view) - _losses(clean)
    return mean_of(
        LOG_LOSS_CHANGE,
        change,
        images=view.images,
        failures=ordered(change > 0, -change),
        rest=0.0,
    )


def _losses(predictions: Predictions) -> np.ndarray:
    log_probabilities = predictions.log_probabilities
    return np.asarray(-log_probabilities[np.arange(len(log_probabilities)), predictions.labels])


def _label_probabilities(predictions: Predictions) -> np.ndarray:
    return np.asarray(np.exp(-_losses(predictions)))
