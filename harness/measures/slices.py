"""Groups of images, such as a camera or a site.

Measures are the accuracy of a group, the gap between groups, and the difference to other images.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.base.errors import NotApplicableError
from harness.measures import selection
from harness.measures.accuracy import share_right
from harness.measures.metric import Measurement, Metric, Unit, one_in
from harness.measures.statistics import Z95, proportion_interval, score_interval

if TYPE_CHECKING:
    from harness.inference import Predictions

GROUP_ACCURACY = Metric(
    "group_accuracy",
    Unit.SHARE,
    better="more",
    about="share of correct predictions in one group of images",
    at_chance=one_in,
)
WORST_GROUP_ACCURACY = Metric(
    "worst_group_accuracy",
    Unit.SHARE,
    better="more",
    words="the worst group",
    about="share of correct predictions in the worst group of images",
    at_chance=one_in,
)
GROUP_GAP = Metric(
    "group_gap",
    Unit.DIFFERENCE,
    better="less",
    words="the best group less the worst",
    range=(0.0, 1.0),
    about="accuracy of the best group of images less that of the worst",
)
GROUP_DIFFERENCE = Metric(
    "group_difference",
    Unit.DIFFERENCE,
    better="more",
    words="probability of the label, less that on other images",
)
CLASS_DIFFERENCE = Metric(
    "class_difference",
    Unit.DIFFERENCE,
    better="more",
    words="probability of the label, less that on other classes",
)
OF_ONE_GROUP = frozenset({GROUP_ACCURACY.name, GROUP_DIFFERENCE.name, CLASS_DIFFERENCE.name})
OF_GROUPS = OF_ONE_GROUP | {WORST_GROUP_ACCURACY.name, GROUP_GAP.name}


class _GroupAccuracy(NamedTuple):
    """The accuracy of a group of `n` images, with Wilson's interval."""

    name: str
    n: int
    accuracy: float
    interval: tuple[float, float]


def group_accuracy(predictions: Predictions, *, by: str, group: str) -> Measurement:
    """Return the share of correct predictions in one group, in [0, 1].

    Args:
        predictions: The predictions to measure.
        by: A column of the data, such as camera.
        group: A value in it, such as front.

    Raises:
        InputError: The data lack the column.
        NotApplicableError: No measured image is in the group.
    """
    return share_right(GROUP_ACCURACY, predictions, _members(predictions, by, group))


def worst_group(predictions: Predictions, *, by: str, least: int | None = None) -> Measurement:
    """Return the accuracy, in [0, 1], of the worst group with at least `least` images.

    `n` counts the images of all these groups, and is the same for every model. The interval is
    Wilson's for the group's own images (Wilson 1927), without a correction for the selection.

    Raises:
        InputError: The data lack the column `by`.
        NotApplicableError: There are fewer than two groups.
    """
    groups = _accuracies(predictions, by, least)
    worst = min(groups, key=lambda group: group.accuracy)
    return Measurement(
        WORST_GROUP_ACCURACY,
        worst.accuracy,
        sum(group.n for group in groups),
        worst.interval,
        detail=f"worst of {len(groups)} groups by {by}: {worst.name}, {worst.n} images",
        failures=_failures(predictions, by, worst),
        counted=worst.n,
    )


def group_gap(predictions: Predictions, *, by: str, least: int | None = None) -> Measurement:
    """Return the difference in accuracy between the best and the worst group, in [0, 1].

    The interval is that of a difference of two independent proportions, within [0, 1]. Groups
    count, and errors are raised, as in `worst_group`.
    """
    groups = _accuracies(predictions, by, least)
    worst = min(groups, key=lambda group: group.accuracy)
    best = max(groups, key=lambda group: group.accuracy)
    gap = best.accuracy - worst.accuracy

    # Newcombe (1998), "Interval estimation for the difference between independent proportions",
    # method 10: the distances to Wilson's limits of both, added as squares.
    best_low, best_high = best.interval
    worst_low, worst_high = worst.interval
    down = math.hypot(best.accuracy - best_low, worst_high - worst.accuracy)
    up = math.hypot(best_high - best.accuracy, worst.accuracy - worst_low)
    return Measurement(
        GROUP_GAP,
        gap,
        sum(group.n for group in groups),
        (max(gap - down, 0.0), min(gap + up, 1.0)),
        detail=(
            f"{best.name} {best.accuracy:.1%} of {best.n}, "
            f"{worst.name} {worst.accuracy:.1%} of {worst.n} images"
        ),
        failures=_failures(predictions, by, worst),
    )


def group_difference(
    predictions: Predictions, *, by: str, group: str, paired_by: str | None = None
) -> Measurement:
    """Return the mean probability of the label in one group, less that on all others, in [-1, 1].

    Both means move alike if a whole network is surer, or less sure. `n` is the number of the
    group's images or, with `paired_by`, of the pairs that have images on both sides. The value is
    then the mean over these pairs.

    Args:
        predictions: The predictions to measure.
        by: A column of the data, such as camera.
        group: A value in it, such as front.
        paired_by: A column that is equal for images of a pair. They show the same thing, such as
            one scene by two cameras.

    Raises:
        InputError: The data lack a column.
        NotApplicableError: The group has no measured image, or there are no others, or not all
            probabilities are known.
    """
    chosen = _members(predictions, by, group)
    if paired_by is None:
        return _difference(GROUP_DIFFERENCE, predictions, chosen, group)
    pairs = selection.column(predictions, paired_by)
    return _difference_of_pairs(GROUP_DIFFERENCE, predictions, chosen, group, pairs)


def class_difference(predictions: Predictions, *, of_class: str) -> Measurement:
    """Return the mean probability of the label in one class, less that on all others, in [-1, 1].

    It is as `group_difference` without pairs. Raises `InputError` for a class that the data lack.
    """
    chosen = selection.of_class(predictions, of_class)
    if not chosen.any():
        raise NotApplicableError(f"none of the {len(chosen)} images is of class {of_class!r}")
    return _difference(CLASS_DIFFERENCE, predictions, chosen, of_class)


def _difference(
    metric: Metric, predictions: Predictions, chosen: np.ndarray, name: str
) -> Measurement:
    """Return the difference between the `chosen` images, (N,) bool, and all others."""
    if chosen.all():
        raise NotApplicableError(
            f"all {len(chosen)} images are of {name!r}, so there are no others to compare with"
        )
    label_probabilities = _label_probabilities(predictions)
    own = label_probabilities[chosen]
    others = label_probabilities[~chosen]
    n = len(own)
    other_n = len(others)

    # Each of the n images takes its part of the others. The n contributions then have the variance
    # of both sides.
    shares_of_others = np.bincount(np.arange(other_n) % n, others, minlength=n)
    each = own - shares_of_others * (n / other_n)

    standard_error = math.inf  # Unknown for a single image.
    if min(n, other_n) > 1:
        standard_error = math.sqrt(own.var(ddof=1) / n + others.var(ddof=1) / other_n)
    detail = f"{name} {own.mean():.1%} of {n}, others {others.mean():.1%} of {other_n} images"
    return _measured_difference(
        metric, predictions, chosen, each, standard_error=standard_error, detail=detail
    )


def _difference_of_pairs(
    metric: Metric, predictions: Predictions, chosen: np.ndarray, name: str, pairs: np.ndarray
) -> Measurement:
    """Return the mean difference between the images of a pair that are `chosen` and the others.

    `pairs`, (N,), are equal for images of one pair.
    """
    _, pair_numbers = np.unique(pairs, return_inverse=True)
    label_probabilities = _label_probabilities(predictions)
    own_sums, own_counts = _sums_by_pair(pair_numbers, label_probabilities, chosen)
    other_sums, other_counts = _sums_by_pair(pair_numbers, label_probabilities, ~chosen)
    on_both_sides = (own_counts > 0) & (other_counts > 0)
    if not on_both_sides.any():
        raise NotApplicableError(
            f"no image of group {name!r} has another one of its pair outside of the group"
        )

    own = own_sums[on_both_sides] / own_counts[on_both_sides]
    others = other_sums[on_both_sides] / other_counts[on_both_sides]
    each = own - others
    n = len(each)
    standard_error = math.inf  # Unknown for a single pair.
    if n > 1:
        standard_error = float(each.std(ddof=1)) / math.sqrt(n)
    paired = chosen & on_both_sides[pair_numbers]
    detail = f"{name} {own.mean():.1%}, others {others.mean():.1%} of {n} pairs"
    return _measured_difference(
        metric, predictions, paired, each, standard_error=standard_error, detail=detail
    )


def _sums_by_pair(
    pair_numbers: np.ndarray, values: np.ndarray, side: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the values, and their number, over the images of each pair on one side."""
    pairs = pair_numbers.max() + 1
    sums = np.bincount(pair_numbers[side], values[side], minlength=pairs)
    counts = np.bincount(pair_numbers[side], minlength=pairs)
    return sums, counts


def _measured_difference(
    metric: Metric,
    predictions: Predictions,
    chosen: np.ndarray,
    each: np.ndarray,
    *,
    standard_error: float,
    detail: str,
) -> Measurement:
    """Return the mean of the contributions `each`; the failures are among the `chosen` images."""
    value = float(each.mean())
    low, high = metric.range
    margin = Z95 * standard_error
    return Measurement(
        metric,
        value,
        len(each),
        (max(value - margin, low), min(value + margin, high)),
        detail=detail,
        failures=selection.likely_most_confident(predictions, ~predictions.correct & chosen),
        each=each,
    )


def _label_probabilities(predictions: Predictions) -> np.ndarray:
    """Return the probability of each image's label, (N,) float64."""
    labels = predictions.labels
    of_labels = predictions.probabilities[np.arange(len(labels)), labels]
    return np.asarray(of_labels, dtype=np.float64)


def _members(predictions: Predictions, by: str, group: str) -> np.ndarray:
    chosen = np.asarray(selection.column(predictions, by) == group)
    if not chosen.any():
        raise NotApplicableError(
            f"none of the {len(chosen)} measured images is of group {group!r} by {by!r}"
        )
    return chosen


def _accuracies(predictions: Predictions, by: str, least: int | None) -> list[_GroupAccuracy]:
    """Return the accuracy of each group with at least `least` images."""
    names, members, sizes = np.unique(
        selection.column(predictions, by), return_inverse=True, return_counts=True
    )
    groups = []
    for number, (name, n) in enumerate(zip(names, sizes.tolist(), strict=True)):
        if n < (least or 1):
            continue
        in_group = members == number
        if predictions.scored:
            scores = predictions.image_scores[in_group]
            groups.append(
                _GroupAccuracy(str(name), n, float(scores.mean()), score_interval(scores))
            )
        else:
            correct = int(predictions.correct[in_group].sum())
            interval = proportion_interval(correct, n)
            groups.append(_GroupAccuracy(str(name), n, correct / n, interval))

    if len(groups) < 2:  # noqa: PLR2004  A single group has no worst.
        of_size = ""
        if least:
            of_size = f" of at least {least} images"
        raise NotApplicableError(
            f"by {by!r} the measured images have {len(groups)} groups{of_size}, expected at least "
            "two"
        )
    return groups


def _failures(predictions: Predictions, by: str, group: _GroupAccuracy) -> np.ndarray:
    in_group = selection.column(predictions, by) == group.name
    if predictions.scored:
        return selection.ordered(in_group, predictions.image_scores)
    return selection.likely_most_confident(predictions, ~predictions.correct & in_group)
