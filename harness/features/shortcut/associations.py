"""Properties that tell a class from all others in training images otherwise than in test images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from harness.features.shortcut.properties import FILE_FORMAT, FILE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

Properties: TypeAlias = "tuple[Mapping[str, np.ndarray], np.ndarray]"
"""Properties of N images, (N,) each by name, and their labels, (N,)."""
SURE = 0.01
"""Probability that any property and class is named by chance."""
LEAST = 0.05
"""Smallest difference of two areas that is named: about a mark on a tenth of a class."""
_TINY = 1e-12
"""Smallest variance of a difference: a property that separates a class in both sets has none."""
FEWEST = 20
"""Fewest images of a class, and of others, in each set: with fewer, the variance of an area is far too small."""


@dataclass(frozen=True)
class Association:
    """A property of a class: areas under the ROC curve of the class against all others, and their p-value.

    An area above 0.5 means larger values in images of the class. `p` is the probability of such a difference between
    training and test images by chance, corrected for the number of comparisons.
    """

    name: str
    label: int
    training_area: float
    test_area: float
    p: float

    @property
    def difference(self) -> float:
        """Return the difference of the two areas, in [0, 1]."""
        return abs(self.training_area - self.test_area)


def associations(
    training: Properties,
    test: Properties,
    *,
    classes: int,
) -> list[Association]:
    """Return what tells a class from all others otherwise in training images, the largest difference first.

    That is a property that predicts the class in training images alone, or one that predicts it in test images alone.

    Each of the two sets has its properties, (N,) by name, and its labels, (N,). A property that one set lacks does not
    count, nor does a class with fewer than 20 images in either. The test of two independent areas is that of DeLong et
    al. (1988), "Comparing the areas under two or more correlated ROC curves", with Bonferroni's correction.
    """
    from scipy.stats import norm

    training, test = _with_formats(training, test), _with_formats(test, training)
    names = [name for name in training[0] if name in test[0]]
    labels = [
        label
        for label in range(classes)
        if _is_judged(training[1], label) and _is_judged(test[1], label)
    ]
    comparisons = len(names) * len(labels)
    compared = []
    for name in names:
        for label in labels:
            training_area, training_variance = area_under_curve(
                training[0][name], training[1] == label
            )
            test_area, test_variance = area_under_curve(test[0][name], test[1] == label)
            standard_error = math.sqrt(max(training_variance + test_variance, _TINY))
            deviation = abs(training_area - test_area) / standard_error
            p = min(2 * float(norm.sf(deviation)) * comparisons, 1.0)
            compared.append(Association(name, label, training_area, test_area, p))
    named = [
        association
        for association in compared
        if association.p < SURE and association.difference >= LEAST
    ]
    return sorted(named, key=lambda association: -association.difference)


def _with_formats(own: Properties, other: Properties) -> Properties:
    """Return properties with 0 for each file format that only the other set has, if both know their files."""
    values, labels = own
    if FILE_SIZE not in values:
        return own
    missing = {
        name: np.zeros(len(labels))
        for name in other[0]
        if name.startswith(FILE_FORMAT) and name not in values
    }
    return {**values, **missing}, labels


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Return the area under the ROC curve of values, (N,), for positive images, (N,) bool, and its variance.

    Sun & Xu (2014), "Fast implementation of DeLong's algorithm", compute the variance from ranks.
    """
    of_positive, of_others = np.sort(values[positive]), np.sort(values[~positive])
    others_below = _ranks(of_positive, among=of_others) / len(of_others)
    positives_above = 1 - _ranks(of_others, among=of_positive) / len(of_positive)
    variance = others_below.var(ddof=1) / len(of_positive) + positives_above.var(ddof=1) / len(
        of_others
    )
    return float(others_below.mean()), float(variance)


def _ranks(values: np.ndarray, *, among: np.ndarray) -> np.ndarray:
    """Return how many of the sorted values `among` lie below each value, (N,); an equal one counts half."""
    below, up_to = (np.searchsorted(among, values, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / 2)


def _is_judged(labels: np.ndarray, label: int) -> bool:
    of_class = int((labels == label).sum())
    return min(of_class, len(labels) - of_class) >= FEWEST
