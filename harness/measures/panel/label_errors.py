"""Suspected label errors: images whose labels the reference models agree against.

Errors of a model are shared, seed-dependent or unique, by how many reference models make them, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.base.records import record
from harness.measures.failures import UNIQUE
from harness.measures.panel.predictions import NOT_ASKED
from harness.measures.selection import ordered

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.measures.panel.predictions import PanelPredictions

NEARLY_ALL = 0.95
"""Share of the reference models that must contradict the label."""
UNLIKELY = 0.05
"""Threshold of the suspicion.

A label that is less likely than this share of the mean of its class is suspect.
"""
LEAST = 3
"""Least number of reference models.

With fewer, each confident error of all of them would be suspect.
"""


@record
class LabelError:
    """Image whose label the reference models agree against.

    Attributes:
        index: Its position in the split.
        label: Its label.
        answer: The class of the highest mean probability.
        probability: The mean probability of that class.
        label_probability: The mean probability of the label.
        wrong: The number of models that contradict the label.
        suspicion: The mean probability of the label as a share of the mean over its class: the
            lower, the more suspect.
    """

    index: int
    label: str
    answer: str
    probability: float
    label_probability: float
    wrong: int
    suspicion: float


@record
class LabelErrors:
    """Suspected label errors of `n` images, by the predictions of so many reference models.

    The clearest come first. `indices` are the positions of the images in the split, (M,) int64.
    """

    n: int
    reference_models: int
    rows: tuple[LabelError, ...]

    @property
    def indices(self) -> np.ndarray:
        return np.array([row.index for row in self.rows], dtype=np.int64)


def suspicion(of_label: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability of each label as a share of the mean of its class, (N,) float64.

    It is at least 0. Hard classes have no more suspected label errors than others.

    >>> import numpy as np
    >>> suspicion(np.array([0.75, 0.25, 0.5]), np.array([0, 0, 1]))
    array([1.5, 0.5, 1. ])

    Args:
        of_label: The panel's mean probabilities of the labels, (N,).
        labels: The labels, (N,) int64.
    """
    # The threshold of a class is the mean probability over the images with its label (Northcutt et
    # al. 2021, "Confident Learning", equation 2). Images are ranked by self-confidence (section
    # 3.2) relative to it.
    own = of_label.astype(np.float64)
    thresholds = np.bincount(labels, own) / np.maximum(np.bincount(labels), 1)
    return np.asarray(own / np.maximum(thresholds[labels], 1e-12))


def label_errors(
    images: LabelledImages, panel_predictions: PanelPredictions, labels: np.ndarray | None = None
) -> LabelErrors:
    """Return the images whose labels nearly all reference models agree against.

    The most suspect come first. At least 95% of the models contradict the label, and its mean
    probability is below a twentieth of the mean of its class. That mean is over all images of the
    split with predictions, so every sample gives the same.

    Args:
        images: The images, some or all of the split.
        panel_predictions: The panel predictions for the split.
        labels: The labels of the whole split, (S,) int64; by default those of the images, which
            are then all of it.

    Raises:
        NotApplicableError: There are fewer than three reference models, or labels are missing.
        NotRecordedError: Some images have no panel predictions.
    """
    view = panel_predictions.clean(images)
    whole_split = panel_predictions.view()
    models = len(panel_predictions.models)
    if models < LEAST:
        raise NotApplicableError(
            f"suspected label errors need at least {LEAST} reference models; this panel has "
            f"{models}, and so few may all be wrong. Calibrate with more"
        )
    if labels is None:
        labels = images.labels.numpy()
    if len(labels) != len(whole_split.wrong):
        raise NotApplicableError(
            f"suspected label errors need the labels of all {len(whole_split.wrong)} images of "
            f"the split, found {len(labels)}"
        )

    predicted = np.flatnonzero(whole_split.wrong != NOT_ASKED)
    suspicions = np.full(len(labels), np.nan)
    suspicions[predicted] = suspicion(whole_split.of_label[predicted], labels[predicted])
    positions = images.positions.numpy()
    suspicions = suspicions[positions]
    labels = labels[positions]

    suspected = (view.wrong >= NEARLY_ALL * models) & (suspicions < UNLIKELY)
    rows = [
        LabelError(
            index=int(positions[image]),
            label=images.classes[labels[image]],
            answer=images.classes[view.likeliest[image, 0]],
            probability=float(view.shares[image, 0]),
            label_probability=float(view.of_label[image]),
            wrong=int(view.wrong[image]),
            suspicion=float(suspicions[image]),
        )
        for image in ordered(suspected, suspicions)
    ]
    return LabelErrors(len(images), models, tuple(rows))


def owners(
    predictions: Predictions, panel_predictions: PanelPredictions
) -> dict[str, frozenset[int]]:
    """Return the positions in the split of shared, seed-dependent and unique errors, by kind.

    Every reference model makes a shared error on the clean image, which points to the image or its
    label. Some make a seed-dependent error. None makes a unique error, which points to the model.
    For a model of the panel, only the other models count. Raises `NotRecordedError` for missing
    predictions.
    """
    wrong = panel_predictions.clean(predictions.images).wrong
    positions = predictions.images.positions.numpy()
    models = panel_predictions.reference_models
    if panel_predictions.excluded is not None:
        # Its own error is among those counted, except for one that it did not make for the panel.
        wrong = np.clip(wrong - ~predictions.correct, 0, models)
    kinds = {
        SHARED: wrong == models,
        SEED_DEPENDENT: (wrong > 0) & (wrong < models),
        UNIQUE: wrong == 0,
    }
    return {kind: frozenset(positions[errors].tolist()) for kind, errors in kinds.items()}


SHARED = "shared: every reference model is wrong"
SEED_DEPENDENT = "seed-dependent: some reference models are wrong"
"""Kinds of errors that point to the images rather than to the model."""


@record
class WithoutLabelErrors:
    """Accuracy on the images without a suspected label error.

    Attributes:
        accuracy: The accuracy of a model, in [0, 1].
        n: The number of these images.
        lost: The number of the model's errors on suspected images.
        reference_mean: The mean accuracy of the reference models; None if the errors of each of
            them are unknown.
        reference_std: The standard deviation of their accuracies; None as the mean.
    """

    accuracy: float
    n: int
    lost: int
    reference_mean: float | None = None
    reference_std: float | None = None


def without(
    predictions: Predictions, panel_predictions: PanelPredictions, found: LabelErrors
) -> WithoutLabelErrors:
    """Measure a model on the images without a suspected label error.

    `predictions` are those of clean images.
    """
    positions = predictions.images.positions.numpy()
    unsuspected = ~np.isin(positions, found.indices)
    measured = WithoutLabelErrors(
        accuracy=float(predictions.correct[unsuspected].mean()),
        n=int(unsuspected.sum()),
        lost=int((~predictions.correct[~unsuspected]).sum()),
    )
    errors_by_model = panel_predictions.view().each
    if errors_by_model is None or len(errors_by_model) == 1:
        return measured

    accuracies = 1 - errors_by_model[:, positions[unsuspected]].mean(axis=1)
    return replace(
        measured,
        reference_mean=float(accuracies.mean()),
        reference_std=float(accuracies.std(ddof=1)),
    )
