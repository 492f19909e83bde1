"""Probabilities on the consensus set, where a fault of labels or weights shows before any error.

These images are easy. Hard images, which carry the seeds' spread, are left out. Values are natural
logarithms, on which the spread of reference models is uniform; the details of a measurement give
the quantity itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError, NotRecordedError
from harness.features.consensus.measures import empty_set
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.panel.predictions import MANY, TINY
from harness.measures.panel.statistics import moderated_prediction
from harness.measures.selection import ordered
from harness.measures.statistics import Z95
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.measures.panel.predictions import PanelPredictions
    from harness.perturb import Perturbation

_RANGE = (-40.0, 40.0)
"""Range of logarithms of divergences, and of deviations."""
_OF_PROBABILITY = (-40.0, 0.0)
"""Range of logarithms of probabilities."""
_FEWEST_MODELS = 3
"""Fewest reference models that have a spread."""
PANEL_DIVERGENCE = Metric(
    "panel_divergence",
    Unit.SCORE,
    better="less",
    words="logarithm of the divergence from the reference models' mean probabilities on the "
    "consensus set",
    range=_RANGE,
    heavy_tailed=True,
    of_probabilities=True,
)
LOST_PROBABILITY = Metric(
    "lost_probability",
    Unit.SCORE,
    better="less",
    words="logarithm of the mean probability that the label lacks on the consensus set",
    range=_OF_PROBABILITY,
    heavy_tailed=True,
    of_probabilities=True,
)
SOFT_CONFUSION = Metric(
    "soft_confusion",
    Unit.SCORE,
    better="less",
    words="logarithm of the mean probability of the other class on the consensus set",
    range=_OF_PROBABILITY,
    heavy_tailed=True,
    of_probabilities=True,
    about_one=True,
    names_cause=True,
)
LARGEST_SOFT_CONFUSION = Metric(
    "largest_soft_confusion",
    Unit.SCORE,
    better="less",
    words="deviation of the pair of classes that deviates most, in standard deviations of "
    "reference models",
    range=_RANGE,
    heavy_tailed=True,
    of_probabilities=True,
    about_one=True,
    names_cause=True,
)


@dataclass(frozen=True, eq=False)
class KnownImages:
    """A model's clean predictions and the consensus set among their N images, `known` (N,) bool."""

    predictions: Predictions
    panel: PanelPredictions
    known: np.ndarray
    on_consensus_set = True

    @property
    def images(self) -> LabelledImages:
        """Return the images, in or out of the set."""
        return self.predictions.images

    def perturbation_of(self, position: int) -> Perturbation:  # noqa: ARG002
        """Return the perturbation of an image: all are clean."""
        return IDENTITY

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Return the model's probabilities of all images, (N, classes) float64."""
        return self.predictions.probabilities.astype(np.float64)

    def of_class(self, label: int) -> np.ndarray:
        """Return the images of a class in the set, (N,) bool.

        Raises:
            NotApplicableError: The set has no image of the class.
        """
        in_class = self.known & (self.predictions.labels == label)
        if not in_class.any():
            name = self.predictions.classes[label]
            raise NotApplicableError(f"no image of {name} is in the consensus set")
        return np.asarray(in_class)

    def confused(self, true: int, other: int) -> str:
        """Return as text how a class is predicted as another, with the reference models' share."""
        classes = self.predictions.classes
        in_class = self.of_class(true)
        share = self.probabilities[in_class, other].mean()
        text = (
            f"{classes[true]} is predicted as {classes[other]} with {share:.2%} "
            f"on {in_class.sum():,} easy images"
        )
        if self.panel.view().mean is None:
            return text
        reference_share = self.panel.mean_of_others(self.predictions)[in_class, other].mean()
        return f"{text}, reference models {reference_share:.2%}"


def find_known_images(predictions: Predictions, panel_predictions: PanelPredictions) -> KnownImages:
    """Return a model's clean predictions with the consensus set among their images.

    Raises:
        InputError: As `PanelPredictions.consensus_sets` does, or for unknown probabilities.
        NotRecordedError: The consensus set is empty.
        NotApplicableError: The set is empty for a model of the panel.
    """
    (reference,) = panel_predictions.consensus_sets([predictions])
    predictions.expect_known()
    if not reference.consensus.any():
        raise empty_set(panel_predictions)
    return KnownImages(predictions, panel_predictions, reference.consensus)


def panel_divergence(seen: KnownImages) -> Measurement:
    """Return the log of the mean divergence from the reference models' mean probabilities.

    The divergence is that of Kullback and Leibler (1951), "On Information and Sufficiency", in
    nats.
    """
    own = seen.probabilities
    reference = seen.panel.mean_of_others(seen.predictions)
    if reference.shape != own.shape:  # The panel has the label and all other classes together.
        of_label = own[np.arange(len(own)), seen.predictions.labels]
        own = np.stack([of_label, 1 - of_label], axis=1)

    log_ratios = np.log(reference / np.maximum(own, 1e-12))
    divergences = (reference * log_ratios).sum(axis=1)
    mean = divergences[seen.known].mean()
    detail = f"mean divergence {mean:.4f} nats {_on_images(seen.known)}"
    return _log_mean(PANEL_DIVERGENCE, divergences, seen.known, detail)


def lost_probability(seen: KnownImages) -> Measurement:
    """Return the log of the mean of 1 - p of the label."""
    rows = np.arange(len(seen.known))
    losses = 1 - seen.probabilities[rows, seen.predictions.labels]
    mean = losses[seen.known].mean()
    detail = f"the label lacks {mean:.2%} {_on_images(seen.known)}"
    return _log_mean(LOST_PROBABILITY, losses, seen.known, detail)


def _on_images(counted: np.ndarray) -> str:
    return f"on {counted.sum():,} images that every reference model predicts correctly"


def soft_confusion(seen: KnownImages, pair: tuple[str, str]) -> Measurement:
    """Return the log of the mean probability of the second class of a pair on images of the first.

    Raises:
        NotApplicableError: The images lack one of the classes.
    """
    classes = seen.predictions.classes
    for name in pair:
        if name not in classes:
            raise NotApplicableError(f"the images have no class {name!r}")
    true, other = map(classes.index, pair)
    values = seen.probabilities[:, other]
    return _log_mean(SOFT_CONFUSION, values, seen.of_class(true), seen.confused(true, other))


def largest_soft_confusion(seen: KnownImages) -> Measurement:
    """Return the largest deviation of a pair's soft confusion from the reference models.

    It is in standard deviations. Reference models' own largest deviations, each against the others,
    set the threshold, so it allows for the number of pairs.

    Raises:
        NotRecordedError: The panel predictions have no soft confusions.
        NotApplicableError: There are fewer than three reference models, more than `MANY` classes,
            or no pair that every reference model has images of.
    """
    reference = _soft_confusions_of_others(seen)
    pairs = _comparable_pairs(seen, reference)
    true_classes, other_classes = np.array(pairs).T

    # The deviation is a moderated t (Smyth 2004, "Linear models and empirical Bayes methods"):
    # pairs share strength about their variances.
    of_pairs = reference[:, true_classes, other_classes].astype(np.float64)
    expected, spread = moderated_prediction(of_pairs)
    deviations = (_log_soft_confusions(seen, pairs) - expected) / spread
    worst = int(deviations.argmax())
    true, other = pairs[worst]
    value = float(np.clip(deviations[worst], *_RANGE))

    # The standard error of a logarithm is that of the mean, relative to the mean.
    probabilities = seen.probabilities[:, other]
    counted = seen.of_class(true)
    in_class = probabilities[counted]
    error = (
        Z95 * in_class.std() / np.sqrt(len(in_class)) / max(in_class.mean(), TINY) / spread[worst]
    )
    return Measurement(
        LARGEST_SOFT_CONFUSION,
        value,
        len(probabilities),
        (float(value - error), float(value + error)),
        detail=f"{seen.confused(true, other)}; of {len(pairs)} pairs",
        failures=_highest_first(probabilities, counted),
        counted=len(in_class),
    )


def _soft_confusions_of_others(seen: KnownImages) -> np.ndarray:
    """Return the log soft confusions of the other models, (models, classes, classes)."""
    panel = seen.panel
    soft = panel.view().soft
    if len(seen.predictions.classes) > MANY:
        raise NotApplicableError(
            f"more than {MANY} classes: the panel predictions have no soft confusions of so many"
        )
    if soft is None:
        raise NotRecordedError("the panel predictions have no soft confusions; calibrate again")
    others = [row for row, model in enumerate(panel.models) if model != panel.excluded]
    if len(others) < _FEWEST_MODELS:
        raise NotApplicableError(f"{len(others)} reference models tell no spread; add a third one")
    return np.asarray(soft[others])


def _comparable_pairs(seen: KnownImages, reference: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of a class in the set and another that all reference models have."""
    recorded = np.isfinite(reference).all(axis=0)
    present = np.unique(seen.predictions.labels[seen.known])
    all_pairs = product(present, range(len(seen.predictions.classes)))
    pairs = [(true, other) for true, other in all_pairs if other != true and recorded[true, other]]
    if not pairs:
        raise NotApplicableError(
            "for each class, some reference model has no image that all others predict correctly"
        )
    return pairs


def _log_soft_confusions(seen: KnownImages, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Return the log of the model's mean probability for each pair, (pairs,)."""
    means = {}
    for true in dict.fromkeys(true for true, _ in pairs):
        means[true] = seen.probabilities[seen.of_class(true)].mean(axis=0)
    return np.asarray(np.log(np.maximum([means[true][other] for true, other in pairs], TINY)))


def _highest_first(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return ordered(counted & (values > 0), -values)


def _log_mean(metric: Metric, values: np.ndarray, counted: np.ndarray, detail: str) -> Measurement:
    """Return the log of the mean of the counted values, with the mean's 95% interval."""
    sample = values[counted]
    mean = float(sample.mean())
    error = Z95 * float(sample.std()) / np.sqrt(len(sample))
    logarithms = np.log(np.maximum([mean, mean - error, mean + error], TINY))
    value, low, high = map(float, np.clip(logarithms, *metric.range))
    return Measurement(
        metric,
        value,
        len(values),
        (low, high),
        detail=detail,
        failures=_highest_first(values, counted),
        counted=len(sample),
    )
