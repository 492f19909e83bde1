"""Probabilities on the consensus set: easy images, where a fault of labels or weights shows before any error.

Values are natural logarithms, on which the spread of reference models is uniform; the details of a measurement say what
they stand for. Hard images, which carry the seeds' spread, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError, NotRecordedError
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

_RANGE, _OF_PROBABILITY = (-40.0, 40.0), (-40.0, 0.0)
PANEL_DIVERGENCE = Metric(
    "panel_divergence",
    Unit.SCORE,
    better="less",
    words="logarithm of the divergence from the reference models' mean probabilities on the consensus set",
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
    words="deviation of the pair of classes that deviates most, in standard deviations of reference models",
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
        """Return the images of a class in the set, (N,) bool; raises `NotApplicableError` without any."""
        found = self.known & (self.predictions.labels == label)
        if not found.any():
            raise NotApplicableError(
                f"no image of {self.predictions.classes[label]} is in the consensus set"
            )
        return np.asarray(found)

    def confused(self, true: int, other: int) -> str:
        """Return as text how a class is predicted as another, with the reference models' share."""
        classes, some = self.predictions.classes, self.of_class(true)
        said = f"{classes[true]} is predicted as {classes[other]} with {self.probabilities[some, other].mean():.2%}"
        if self.panel.view().mean is None:
            return f"{said} on {some.sum():,} easy images"
        usual = self.panel.mean_of_others(self.predictions)[some, other].mean()
        return f"{said} on {some.sum():,} easy images, reference models {usual:.2%}"


def find_known_images(predictions: Predictions, panel_predictions: PanelPredictions) -> KnownImages:
    """Return a model's clean predictions with the consensus set among their images.

    Raises as `PanelPredictions.consensus_sets` does, and for an empty set or unknown probabilities.
    """
    (found,) = panel_predictions.consensus_sets([predictions])
    predictions.expect_known()
    if not found.consensus.any():
        error = NotRecordedError if panel_predictions.excluded is None else NotApplicableError
        raise error(
            f"the {panel_predictions.reference_models} reference models agree on no image, so the set is empty"
        )
    return KnownImages(predictions, panel_predictions, found.consensus)


def panel_divergence(seen: KnownImages) -> Measurement:
    """Return the log of the mean Kullback-Leibler divergence from the reference models' mean probabilities, in nats."""
    own, others = seen.probabilities, seen.panel.mean_of_others(seen.predictions)
    if others.shape != own.shape:  # The label and all other classes.
        of_label = own[np.arange(len(own)), seen.predictions.labels]
        own = np.stack([of_label, 1 - of_label], axis=1)
    values = (others * np.log(others / np.maximum(own, 1e-12))).sum(axis=1)
    return _log_mean(PANEL_DIVERGENCE, values, seen.known, form="mean divergence {:.4f} nats")


def lost_probability(seen: KnownImages) -> Measurement:
    """Return the log of the mean of 1 - p of the label."""
    lost = 1 - seen.probabilities[np.arange(len(seen.known)), seen.predictions.labels]
    return _log_mean(LOST_PROBABILITY, lost, seen.known, form="the label lacks {:.2%}")


def soft_confusion(seen: KnownImages, pair: tuple[str, str]) -> Measurement:
    """Return the log of the mean probability of the second class of a pair on images of the first.

    Raises `NotApplicableError` for classes that the images lack.
    """
    classes = seen.predictions.classes
    if lacking := [name for name in pair if name not in classes]:
        raise NotApplicableError(f"the images have no class {lacking[0]!r}")
    true, other = map(classes.index, pair)
    values = seen.probabilities[:, other]
    return _log_mean(SOFT_CONFUSION, values, seen.of_class(true), detail=seen.confused(true, other))


def largest_soft_confusion(seen: KnownImages) -> Measurement:
    """Return the largest deviation of a pair's soft confusion from the reference models, in standard deviations.

    The deviation is a moderated t (Smyth 2004): pairs share strength about their variances. Reference models' own
    largest deviations, each against the others, set the threshold, so it allows for the number of pairs. Raises
    `NotRecordedError` without the reference models' values, and `NotApplicableError` for fewer than three and for more
    than `MANY` classes.
    """
    view, panel, classes = seen.panel.view(), seen.panel, seen.predictions.classes
    if len(classes) > MANY:
        raise NotApplicableError(
            f"more than {MANY} classes: the panel predictions have no soft confusions of so many"
        )
    if view.soft is None:
        raise NotRecordedError("the panel predictions have no soft confusions; calibrate again")
    others = [at for at, model in enumerate(panel.models) if model != panel.excluded]
    if len(others) < 3:  # noqa: PLR2004
        raise NotApplicableError(f"{len(others)} reference models tell no spread; add a third one")
    present = np.unique(seen.predictions.labels[seen.known])
    known = np.isfinite(view.soft[others]).all(axis=0)
    pairs = [
        (true, other)
        for true in present
        for other in range(len(classes))
        if other != true and known[true, other]
    ]
    if not pairs:
        raise NotApplicableError(
            "for each class, some reference model has no image that all others predict correctly"
        )
    rows, columns = np.array(pairs).T
    theirs = view.soft[others][:, rows, columns].astype(np.float64)
    means = {true: seen.probabilities[seen.of_class(true)].mean(axis=0) for true in present}
    own = np.log(np.maximum([means[true][other] for true, other in pairs], TINY))
    usual, spread = moderated_prediction(theirs)
    away = (own - usual) / spread
    worst = int(away.argmax())
    value, detail = (
        float(np.clip(away[worst], *_RANGE)),
        f"{seen.confused(*pairs[worst])}; of {len(pairs)} pairs",
    )
    true, other = pairs[worst]
    values, counted = seen.probabilities[:, other], seen.of_class(true)
    some = values[counted]
    error = Z95 * some.std() / np.sqrt(len(some)) / max(some.mean(), TINY) / spread[worst]
    interval = float(value - error), float(value + error)
    return Measurement(
        LARGEST_SOFT_CONFUSION,
        value,
        len(values),
        interval,
        detail=detail,
        failures=_most(values, counted),
        counted=len(some),
    )


def _most(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return ordered(counted & (values > 0), -values)


def _log_mean(
    metric: Metric, values: np.ndarray, counted: np.ndarray, *, form: str = "", detail: str = ""
) -> Measurement:
    some, n = values[counted], len(values)
    mean, error = float(some.mean()), Z95 * float(some.std()) / np.sqrt(len(some))
    ends = np.log(np.maximum([mean, mean - error, mean + error], TINY))
    value, low, high = map(float, np.clip(ends, *metric.range))
    detail = (
        detail
        or f"{form.format(mean)} on {len(some):,} images that every reference model predicts correctly"
    )
    failures = _most(values, counted)
    return Measurement(
        metric, value, n, (low, high), detail=detail, failures=failures, counted=len(some)
    )
