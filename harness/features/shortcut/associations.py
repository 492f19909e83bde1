"""Properties that tell a class from all others in training images otherwise than in test images."""

from __future__ import annotations

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
"""Fewest images of a class, and of others, in each set.

With fewer, the variance of an area is far too small.
"""


@dataclass(frozen=True)
class Association:
    """A property whose values separate a class from all others, in one set of images more.

    Attributes:
        name: The property.
        label: The class.
        training_area: Area under the ROC curve of the class against all others, in training
            images. Above 0.5, values are larger in images of the class.
        test_area: That in test images.
        p: Probability of such a difference of the areas by chance, corrected for the number of
            comparisons.
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


def associations(training: Properties, test: Properties, *, classes: int) -> list[Association]:
    """Return the properties that separate a class from all others in one of two sets alone.

    The largest difference is first. The test of two independent areas is that of DeLong et al.
    (1988), "Comparing the areas under two or more correlated ROC curves", with Bonferroni's
    correction.

    Args:
        training: Properties, (N,) by name, and labels, (N,), of the training images.
        test: Those of the test images. A property that one set lacks does not count.
        classes: Number of classes. One with fewer than `FEWEST` images in either set does not
            count.
    """
    from scipy.stats import norm

    training, test = _with_formats(training, test), _with_formats(test, training)
    names = [name for name in training[0] if name in test[0]]
    judged = _are_judged(training[1], classes) & _are_judged(test[1], classes)
    labels = np.flatnonzero(judged)
    comparisons = len(names) * len(labels)

    named = []
    for name in names:
        training_areas, training_variances = areas_under_curves(
            training[0][name], training[1], labels
        )
        test_areas, test_variances = areas_under_curves(test[0][name], test[1], labels)
        differences = np.abs(training_areas - test_areas)
        standard_errors = np.sqrt(np.maximum(training_variances + test_variances, _TINY))
        p_values = np.minimum(2 * norm.sf(differences / standard_errors) * comparisons, 1.0)
        for position in np.flatnonzero((p_values < SURE) & (differences >= LEAST)):
            association = Association(
                name,
                int(labels[position]),
                float(training_areas[position]),
                float(test_areas[position]),
                float(p_values[position]),
            )
            named.append(association)
    return sorted(named, key=lambda association: -association.difference)


def _with_formats(own: Properties, other: Properties) -> Properties:
    """Return properties with 0 for each file format that only the other set has.

    Properties of pixels alone, as of images whose files are unknown, are returned unchanged.
    """
    values, labels = own
    if FILE_SIZE not in values:
        return own
    missing = {
        name: np.zeros(len(labels))
        for name in other[0]
        if name.startswith(FILE_FORMAT) and name not in values
    }
    return {**values, **missing}, labels


def _are_judged(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return which classes, and all others, have `FEWEST` images or more, (classes,) bool."""
    of_class = np.bincount(labels, minlength=classes)[:classes]
    return np.minimum(of_class, len(labels) - of_class) >= FEWEST


def areas_under_curves(
    values: np.ndarray, labels: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the area under the ROC curve of values for each class against all others.

    The variance of an area follows from ranks: Sun & Xu (2014), "Fast implementation of DeLong's
    algorithm".

    Args:
        values: One value for each image, (N,).
        labels: The class of each image, (N,).
        classes: The classes with a curve, (C,).

    Returns:
        The areas and their variances, (C,) each.
    """
    # All values are sorted and ranked once: sorting them for each class takes minutes with hundreds
    # of classes. Ranks among the others are ranks among all, less those among the class itself.
    order = np.argsort(values, kind="stable")
    values, labels = values[order], labels[order]
    below = np.searchsorted(values, values, side="left")
    up_to = np.searchsorted(values, values, side="right")

    by_class = np.argsort(labels, kind="stable")
    labels_in_order = labels[by_class]
    starts = np.searchsorted(labels_in_order, classes, side="left")
    ends = np.searchsorted(labels_in_order, classes, side="right")
    areas, variances = np.empty(len(classes)), np.empty(len(classes))
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        of_class = by_class[start:end]
        area, variance = _area_of_class(
            values[of_class], below[of_class], up_to[of_class], len(values)
        )
        areas[position] = area
        variances[position] = variance
    return areas, variances


def _area_of_class(
    own: np.ndarray, below: np.ndarray, up_to: np.ndarray, count: int
) -> tuple[float, float]:
    """Return the area under the curve of a class, and its variance.

    Args:
        own: The sorted values of the class, (P,).
        below: How many of all `count` values lie below each of them, (P,).
        up_to: How many lie below it or are equal, (P,).
        count: Number of values of all classes.
    """
    others = count - len(own)
    own_below = np.searchsorted(own, own, side="left")
    own_up_to = np.searchsorted(own, own, side="right")
    others_below = below - own_below
    others_up_to = up_to - own_up_to
    share_below = (others_below + others_up_to) / 2 / others

    # The other values lie between, or at, the distinct values of the class. All others at such a
    # step have the same rank among the class, so counts replace a search for each of them.
    distinct = own_below == np.arange(len(own))
    limits = np.ravel(np.column_stack([others_below[distinct], others_up_to[distinct]]))
    counts = np.diff(limits, prepend=0, append=others)
    ranks = np.empty(len(counts))
    ranks[0::2] = np.append(own_below[distinct], len(own))
    ranks[1::2] = (own_below[distinct] + own_up_to[distinct]) / 2
    share_above = 1 - np.repeat(ranks / len(own), counts)

    variance = share_below.var(ddof=1) / len(own) + share_above.var(ddof=1) / others
    return float(share_below.mean()), float(variance)
