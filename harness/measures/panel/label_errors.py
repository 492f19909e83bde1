"""Suspected label errors: images whose labels the reference models agree against; errors shared and unique."""

from __future__ import annotations

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
"""Threshold of the suspicion: a label less likely than this share of the mean of its class is suspect."""
LEAST = 3
"""Least number of reference models. With fewer, each confident error of all of them would be suspect."""


@record
class LabelError:
    """Image whose label the reference models agree against.

    `index` is its position in the split. `answer` is the class of the highest mean probability, with its `probability`
    and that of the `label`. `wrong` models contradict the label. `suspicion` is the mean probability of the label as a
    share of the mean over its class: the lower, the more suspect.
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
    """Suspected label errors of `n` images, by the predictions of `reference_models` models, the clearest first.

    `indices` are the positions of the images in the split, (M,) int64.
    """

    n: int
    reference_models: int
    rows: tuple[LabelError, ...]

    @property
    def indices(self) -> np.ndarray:
        return np.array([row.index for row in self.rows], dtype=np.int64)


def suspicion(of_label: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability of each label as a share of the mean of its class, (N,) float64, at least 0.

    `of_label` are the panel's mean probabilities of the `labels`, (N,) int64. The threshold of a class is their mean
    over the images with its label (Northcutt et al. 2021, "Confident Learning", equation 2). Images are ranked by
    self-confidence (section 3.2) relative to it, so hard classes have no more suspected label errors than others.
    """
    own = of_label.astype(np.float64)
    thresholds = np.bincount(labels, own) / np.maximum(np.bincount(labels), 1)
    return np.asarray(own / np.maximum(thresholds[labels], 1e-12))


def label_errors(
    images: LabelledImages, panel_predictions: PanelPredictions, labels: np.ndarray | None = None
) -> LabelErrors:
    """Return the images whose labels nearly all reference models agree against, the most suspect first.

    At least 95% of the models contradict the label, and its mean probability is below a twentieth of the mean of its
    class. That mean is over all images of the split with predictions, so every sample gives the same. `labels`
    are those of the whole split, (S,) int64; without them the images are all of it. Raises `NotApplicableError` for
    missing predictions and for fewer than three reference models.
    """
    view, whole, positions = (
        panel_predictions.clean(images),
        panel_predictions.view(),
        images.positions.numpy(),
    )
    models = len(panel_predictions.models)
    if models < LEAST:
        raise NotApplicableError(
            f"suspected label errors need at least {LEAST} reference models; this panel has {models}, and so few may "
            "all be wrong. Calibrate with more"
        )
    labels = images.labels.numpy() if labels is None else labels
    if len(labels) != len(whole.wrong):
        raise NotApplicableError(
            f"suspected label errors need the labels of all {len(whole.wrong)} images of the split, found {len(labels)}"
        )
    asked = np.flatnonzero(whole.wrong != NOT_ASKED)
    unusual = np.full(len(labels), np.nan)
    unusual[asked] = suspicion(whole.of_label[asked], labels[asked])
    unusual, labels = unusual[positions], labels[positions]
    chosen = (view.wrong >= NEARLY_ALL * models) & (unusual < UNLIKELY)
    rows = tuple(
        LabelError(
            index=int(positions[at]),
            label=images.classes[labels[at]],
            answer=images.classes[view.likeliest[at, 0]],
            probability=float(view.shares[at, 0]),
            label_probability=float(view.of_label[at]),
            wrong=int(view.wrong[at]),
            suspicion=float(unusual[at]),
        )
        for at in ordered(chosen, unusual)
    )
    return LabelErrors(len(images), models, rows)


def owners(
    predictions: Predictions, panel_predictions: PanelPredictions
) -> dict[str, frozenset[int]]:
    """Return the positions in the split of shared, seed-dependent and unique errors, by kind.

    Every reference model makes a shared error on the clean image, which points to the image or its label. Some make a
    seed-dependent error. None makes a unique error, which points to the model. For a model of the panel, only the other
    models count. Raises `NotApplicableError` for missing predictions.
    """
    wrong, positions = (
        panel_predictions.clean(predictions.images).wrong,
        predictions.images.positions.numpy(),
    )
    models = panel_predictions.reference_models
    if panel_predictions.excluded is not None:
        # Its own error is among those counted, except for one that it did not make for the panel.
        wrong = np.clip(wrong - ~predictions.correct, 0, models)
    kinds = {
        SHARED: wrong == models,
        SEED_DEPENDENT: (wrong > 0) & (wrong < models),
        UNIQUE: wrong == 0,
    }
    return {name: frozenset(positions[which].tolist()) for name, which in kinds.items()}


SHARED = "shared: every reference model is wrong"
SEED_DEPENDENT = "seed-dependent: some reference models are wrong"
"""Kinds of errors that point to the images rather than to the model."""


@record
class WithoutLabelErrors:
    """Accuracy on the `n` images without a suspected label error, of a model and of the reference models.

    `lost` counts the model's errors on suspected images. `reference_mean` and `reference_std` are None if the errors of
    each reference model are unknown.
    """

    accuracy: float
    n: int
    lost: int
    reference_mean: float | None = None
    reference_std: float | None = None


def without(
    predictions: Predictions, panel_predictions: PanelPredictions, found: LabelErrors
) -> WithoutLabelErrors:
    """Measure a model on the images without a suspected label error, by its predictions of clean images."""
    positions = predictions.images.positions.numpy()
    kept = ~np.isin(positions, found.indices)
    each = panel_predictions.view().each
    reference: tuple[float, float] | tuple[None, None] = (None, None)
    if each is not None and len(each) > 1:
        shares = 1 - each[:, positions[kept]].mean(axis=1)
        reference = float(shares.mean()), float(shares.std(ddof=1))
    lost = int((~predictions.correct[~kept]).sum())
    return WithoutLabelErrors(
        float(predictions.correct[kept].mean()), int(kept.sum()), lost, *reference
    )
