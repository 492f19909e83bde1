"""Pulls: how much more a mark raises the probability of a class than with reference models.

A mark that training images of one class carried by accident pulls images of all other classes
towards that class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data import sample_up_to
from harness.features.shortcut.metrics import SHORTCUT_PULL
from harness.measures.metric import Measurement
from harness.measures.panel.predictions import MANY
from harness.measures.panel.statistics import ModelStatistics, moderated_prediction
from harness.measures.selection import ordered
from harness.measures.statistics import Z95
from harness.perturb.marks import MARKS, SMALLEST_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.measures.panel.predictions import PanelPredictions

KIND = "shortcuts"
"""The kind of these statistics in a file of panel predictions."""
_SAMPLE = 500
"""Images that each mark is tried on."""


@dataclass(frozen=True, eq=False)
class Pulls:
    """Pulls of each mark towards each class, and those of the reference models.

    Attributes:
        classes: Names of the classes.
        marked: Predictions of the same N images with each mark.
        changes: Changes of a class's log probability by a mark, in nats, (marks, N, classes),
            masked on images of the class.
        usual: Mean of a prediction for a pull from the reference models, (marks, classes).
        spread: Standard deviation of this prediction, (marks, classes).
    """

    classes: tuple[str, ...]
    marked: tuple[Predictions, ...]
    changes: np.ma.MaskedArray
    usual: np.ndarray
    spread: np.ndarray

    @cached_property
    def own(self) -> np.ndarray:
        """Return the pulls of the model, (marks, classes).

        A pull is the mean change on images of other classes.
        """
        return np.asarray(self.changes.mean(axis=1))

    @cached_property
    def deviations(self) -> np.ndarray:
        """Return the pulls in standard deviations from the reference models, (marks, classes)."""
        return np.asarray((self.own - self.usual) / self.spread)

    @property
    def worst(self) -> tuple[int, int]:
        """Return mark and class of the largest deviation."""
        mark, label = np.unravel_index(int(self.deviations.argmax()), self.deviations.shape)
        return int(mark), int(label)


def find_pulls(
    model: RoleModel, images: LabelledImages, panel_predictions: PanelPredictions
) -> Pulls:
    """Return the pulls of all marks on a sample of the images.

    A model of the panel is compared with the others.

    Raises:
        NotApplicableError: There are more than `MANY` classes, images of one class alone, images
            smaller than the marks, unknown probabilities, or fewer than three reference models.
        NotRecordedError: The panel predictions have no pulls of the reference models.
    """
    if len(images.classes) > MANY:
        raise NotApplicableError(
            f"more than {MANY} classes: a pull towards each of them would be mostly noise"
        )
    height, width = images.pixels.shape[2:]
    if min(height, width) < SMALLEST_SIDE:
        raise NotApplicableError(
            f"images of {width} × {height} px are too small for the marks, which need at least "
            f"{SMALLEST_SIDE} px on each side"
        )
    sample = sample_up_to(images, _SAMPLE)
    present = len(np.unique(sample.labels.numpy()))
    if present < 2:  # noqa: PLR2004  A pull is measured on images of other classes.
        raise NotApplicableError(
            "all images are of one class, so none is of another that a mark could pull"
        )
    clean = model.predict(sample)
    clean.expect_known()
    marked = tuple(model.predict(sample, mark) for mark in MARKS)
    changes = _changes(clean, marked)

    # By number, since the classes of the same images may get other names.
    mark_classes = product(MARKS, range(len(images.classes)))
    names = tuple(f"{mark.in_words()}: class {label}" for mark, label in mark_classes)
    own = changes.mean(axis=1)
    statistics = ModelStatistics(KIND, names, np.asarray(own).ravel())
    others = panel_predictions.statistics_of_others(statistics, clean=lambda: model.predict(images))
    usual, spread = moderated_prediction(others)
    return Pulls(
        images.classes, marked, changes, usual.reshape(own.shape), spread.reshape(own.shape)
    )


def _changes(clean: Predictions, marked: Sequence[Predictions]) -> np.ma.MaskedArray:
    """Return the change of each log probability, (marks, N, classes).

    It is masked for the label of an image.
    """
    before = clean.log_probabilities
    changes = np.stack([predictions.log_probabilities - before for predictions in marked])
    is_label = clean.labels[:, None] == np.arange(before.shape[1])
    return np.ma.masked_array(changes, np.broadcast_to(is_label, changes.shape))


def shortcut_pull(pulls: Pulls) -> tuple[Measurement, Predictions]:
    """Return the largest deviation of a pull, and the predictions with that mark.

    Reference models' own largest deviations, each against the others, set the threshold, so it
    allows for the number of marks and classes. The failures are the images of other classes, the
    most pulled first.
    """
    mark, label = pulls.worst
    change = pulls.changes[mark, :, label]
    of_others = ~np.ma.getmaskarray(change)
    counted = int(of_others.sum())

    value = float(np.clip(pulls.deviations[mark, label], *SHORTCUT_PULL.range))
    # The standard error of the mean change, in the reference models' standard deviations.
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
    own = float(pulls.own[mark, label])
    usual = float(pulls.usual[mark, label])
    name = pulls.classes[label]
    return (
        f"{MARKS[mark].in_words()}, changes the log probability of {name} by {own:+.2f} on average "
        f"on images of other classes, with reference models by {usual:+.2f}"
    )
