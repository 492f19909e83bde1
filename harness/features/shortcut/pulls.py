"""Pulls: how much a mark on an image raises the probability of a class, compared with reference models.

A mark that training images of one class carried by accident pulls images of all other classes towards that class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data import sample_up_to
from harness.features.shortcut.metrics import SHORTCUT_PULL
from harness.measures.metric import Measurement
from harness.measures.panel.predictions import MANY
from harness.measures.panel.statistics import ModelStatistics
from harness.measures.panel.threshold import PROVISIONAL, widened
from harness.measures.selection import ordered
from harness.measures.statistics import Z95, moderated_variances
from harness.perturb.marks import MARKS

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.measures.panel.predictions import PanelPredictions

KIND = "shortcuts"
"""The kind of these statistics in a file of panel predictions."""
_SAMPLE = 500
"""Images that each mark is tried on."""
_LEAST_STD = 0.1
"""Smallest standard deviation of a pull, in nats: smaller ones of few models are chance."""


@dataclass(frozen=True, eq=False)
class Pulls:
    """Pulls of each mark towards each class, and their deviations from the reference models.

    `own` and `usual`, (marks, classes), are mean changes of a class's log probability, in nats, of the model and of the
    reference models. `deviations`, (marks, classes), are in standard deviations of a prediction. `clean` and `marked`
    are the predictions of the same N images.
    """

    clean: Predictions
    marked: tuple[Predictions, ...]
    own: np.ndarray
    usual: np.ndarray
    deviations: np.ndarray
    spread: np.ndarray

    @property
    def worst(self) -> tuple[int, int]:
        """Return mark and class of the largest deviation."""
        mark, label = np.unravel_index(int(self.deviations.argmax()), self.deviations.shape)
        return int(mark), int(label)


def find_pulls(model: RoleModel, images: LabelledImages, panel_predictions: PanelPredictions) -> Pulls:
    """Return the pulls of all marks on a sample of the images.

    A model of the panel is compared with the others. Raises `NotApplicableError` for more than `MANY` classes, for
    unknown probabilities and for fewer than three reference models. Raises `NotRecordedError` without their pulls.
    """
    if len(images.classes) > MANY:
        raise NotApplicableError(f"more than {MANY} classes: a pull towards each of them would be mostly noise")
    sample = sample_up_to(images, _SAMPLE)
    present = len(np.unique(sample.labels.numpy()))
    if present < 2:  # noqa: PLR2004  A pull is measured on images of other classes.
        raise NotApplicableError("all images are of one class, so none is of another that a mark could pull")
    clean = model.predict(sample)
    clean.expect_known()
    marked = tuple(model.predict(sample, mark) for mark in MARKS)
    own = np.array([_pulls_of_mark(clean, predictions).mean(axis=0) for predictions in marked])

    # By number, since the classes of the same images may get other names.
    names = tuple(f"{mark.in_words()}: class {label}" for mark in MARKS for label in range(len(images.classes)))
    statistics = ModelStatistics(KIND, names, own.ravel())
    others = panel_predictions.statistics_of_others(statistics, clean=lambda: model.predict(images))
    if len(others) < PROVISIONAL:
        raise NotApplicableError(f"{len(others)} reference models cannot show how much models differ; add more")
    usual, spread = _moderated(others)
    deviations = (own.ravel() - usual) / spread
    return Pulls(clean, marked, own, *(values.reshape(own.shape) for values in (usual, deviations, spread)))


def _pulls_of_mark(clean: Predictions, marked: Predictions) -> np.ma.MaskedArray:
    """Return the change of each class's log probability, (N, classes), on images of other classes."""
    change = _log_probabilities(marked) - _log_probabilities(clean)
    is_label = clean.labels[:, None] == np.arange(change.shape[1])
    return np.ma.masked_array(change, is_label)


def _log_probabilities(predictions: Predictions) -> np.ndarray:
    from scipy.special import log_softmax

    return np.asarray(log_softmax(predictions.logits.astype(np.float64), axis=1))


def _moderated(others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of a prediction for each pull, from those of K models, (K, pulls).

    Pulls share strength about their variances (Smyth 2004), as soft confusions do.
    """
    count = len(others)
    variances = moderated_variances(others.var(axis=0, ddof=1), df=count - 1)
    std = np.sqrt(np.maximum(variances, _LEAST_STD**2))
    return others.mean(axis=0), std * widened(count)


def shortcut_pull(pulls: Pulls) -> tuple[Measurement, Predictions]:
    """Return the largest deviation of a pull, and the predictions with that mark.

    Reference models' own largest deviations, each against the others, set the threshold, so it allows for the number of
    marks and classes. The failures are the images of other classes, the most pulled first.
    """
    mark, label = pulls.worst
    change = _pulls_of_mark(pulls.clean, pulls.marked[mark])[:, label]
    of_others = ~np.ma.getmaskarray(change)
    counted = int(of_others.sum())

    value = float(np.clip(pulls.deviations[mark, label], *SHORTCUT_PULL.range))
    error = Z95 * float(change.std()) / math.sqrt(max(counted, 1)) / pulls.spread[mark, label]
    measurement = Measurement(
        SHORTCUT_PULL,
        value,
        len(change),
        (value - error, value + error),
        detail=_in_words(pulls),
        failures=ordered(of_others & (change.data > 0), -change.data),
        counted=counted,
    )
    return measurement, pulls.marked[mark]


def _in_words(pulls: Pulls) -> str:
    mark, label = pulls.worst
    own, usual = float(pulls.own[mark, label]), float(pulls.usual[mark, label])
    name = pulls.clean.classes[label]
    return (
        f"{MARKS[mark].in_words()}, changes the log probability of {name} by {own:+.2f} on average on images of other "
        f"classes, with reference models by {usual:+.2f}"
    )
