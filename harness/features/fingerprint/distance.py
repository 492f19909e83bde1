"""Distance of a network's weight statistics from those of the reference models.

It is large if the network was trained by another recipe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.features.fingerprint.metrics import WEIGHT_DISTANCE
from harness.features.fingerprint.weights import (
    StatisticKind,
    as_model_statistics,
    find_weight_statistics,
)
from harness.measures.metric import Measurement
from harness.measures.panel.threshold import widened
from harness.measures.statistics import moderated_variances

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.features.fingerprint.weights import WeightStatistic
    from harness.inference import RoleModel
    from harness.measures.panel.predictions import PanelPredictions

_LEAST_STD = 1e-3
"""Smallest standard deviation of a statistic.

Weights that training leaves alone are equal but for their rounding.
"""
_RIDGE = 1e-6
"""Addend to the variances of standardized statistics.

A covariance of three models may be singular.
"""
_NAMED = 3
"""Number of statistics that the detail of a measurement names."""


@dataclass(frozen=True, eq=False)
class WeightDistance:
    """Distance of a model from K reference models, in standard deviations.

    Attributes:
        statistics: Those of the model's weights, (S,).
        distance: Root of the mean square over the statistics, of which correlated ones count less.
        deviations: That of each statistic, (S,).
        changes: Difference of each statistic from the mean of the reference models, (S,).
    """

    statistics: tuple[WeightStatistic, ...]
    distance: float
    deviations: np.ndarray
    changes: np.ndarray


def find_weight_distance(
    model: RoleModel, images: LabelledImages, panel_predictions: PanelPredictions
) -> WeightDistance:
    """Return the distance of a model's weights from those of the reference models.

    A model of the panel is compared with the others.

    Args:
        model: The model to compare.
        images: They matter only while a panel is recorded.
        panel_predictions: These have the statistics of the reference models.

    Raises:
        NotApplicableError: The model has no weights or other tensors than the reference models, or
            there are fewer than three reference models.
        NotRecordedError: The panel predictions have no statistics of weights.
    """
    statistics = find_weight_statistics(model)
    own = as_model_statistics(statistics)
    others = panel_predictions.statistics_of_others(own, clean=lambda: model.predict(images))
    kinds = np.array([statistic.kind for statistic in statistics])
    distance, deviations = distance_from(own.values, others, kinds)
    return WeightDistance(statistics, distance, deviations, own.values - others.mean(axis=0))


def distance_from(
    own: np.ndarray, others: np.ndarray, kinds: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the distance of a model's statistics from those of K models.

    Args:
        own: Statistics of the model, (S,).
        others: Those of the K models, (K, S).
        kinds: Kinds of the statistics, (S,). Statistics of one kind share strength about their
            variances.

    Returns:
        The distance, and the deviation of each statistic, (S,). Both are in standard deviations of
        a prediction.
    """
    spread, varies = _spread(others, kinds)
    mean = others.mean(axis=0)
    deviations = (own - mean) / (spread * widened(len(others)))

    # The distance of Mahalanobis (1936), divided by the root of S.
    covariance = _covariance((others - mean) / spread, varies)
    mean_square = float(deviations @ np.linalg.solve(covariance, deviations)) / len(own)
    return math.sqrt(mean_square), deviations


def _spread(others: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviation of each statistic, (S,), and whether it varies, (S,) bool."""
    own_variances = others.var(axis=0, ddof=1)
    varies = own_variances > _LEAST_STD**2
    variances = np.maximum(own_variances, _LEAST_STD**2)
    for kind in np.unique(kinds[varies]):
        of_kind = varies & (kinds == kind)
        variances[of_kind] = moderated_variances(variances[of_kind], df=len(others) - 1)
    return np.sqrt(variances), varies


def _covariance(standardized: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """Return the shrunk covariance of statistics, (S, S), from the standardized ones, (K, S)."""
    from sklearn.covariance import ledoit_wolf

    # Statistics that do not vary are of weights that training leaves alone. They have a variance
    # of 1 and no covariance, since an estimate near 0 would take their rounding for another recipe.
    covariance = np.eye(standardized.shape[1])
    if varies.any():
        # Ledoit & Wolf (2004), "A well-conditioned estimator for large-dimensional covariance
        # matrices".
        estimate, _ = ledoit_wolf(standardized[:, varies], assume_centered=True)
        covariance[np.ix_(varies, varies)] = estimate + _RIDGE * np.eye(int(varies.sum()))
    return covariance


def weight_distance(weights: WeightDistance, images: LabelledImages) -> Measurement:
    """Return the natural logarithm of the distance.

    The detail names the statistics that deviate most. None of the images counts, so the interval is
    the value alone.
    """
    value = float(np.clip(math.log(max(weights.distance, 1e-12)), *WEIGHT_DISTANCE.range))
    largest = np.argsort(-np.abs(weights.deviations), kind="stable")[:_NAMED]
    changes = [_in_words(weights, int(position)) for position in largest]
    detail = (
        f"{weights.distance:.1f} standard deviations over {len(weights.statistics)} statistics "
        f"of weights; {', '.join(changes)}"
    )
    return Measurement(
        WEIGHT_DISTANCE, value, len(images), (value, value), detail=detail, counted=0
    )


def _in_words(weights: WeightDistance, position: int) -> str:
    statistic = weights.statistics[position]
    subject = f"{statistic.kind} of {statistic.tensor}"
    if statistic.kind is StatisticKind.VARIANCE:
        subject = statistic.tensor  # The name of the buffer tells.

    # Statistics are logarithms, so a difference is a factor.
    change = float(weights.changes[position])
    percent = 100 * math.expm1(change)
    comparative = "larger" if change > 0 else "smaller"
    amount = f"{abs(percent):.1f}% {comparative}"
    if percent >= 100:  # noqa: PLR2004  A factor reads better then.
        amount = f"{math.exp(change):.1f} times as large"
    return f"{subject} {amount} ({weights.deviations[position]:+.1f})"
