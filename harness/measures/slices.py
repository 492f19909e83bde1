"""Groups of images, such as a camera or a site: accuracy, the gap between them, and the difference to the others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.base.errors import NotApplicableError
from harness.measures import selection
from harness.measures.accuracy import share_right
from harness.measures.metric import Measurement, Metric, Unit, one_in
from harness.measures.statistics import Z95, proportion_interval

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


class _Served(NamedTuple):
    """A group, its number of images, the number of correct ones, their share and Wilson's interval of it."""

    name: str
    n: int
    right: int
    accuracy: float
    interval: tuple[float, float]


def group_accuracy(predictions: Predictions, *, by: str, group: str) -> Measurement:
    """Return the share of correct predictions in [0, 1] for one group, such as `group` front of the column `by` camera.

    Raises `InputError` for a column that the data lack, and `NotApplicableError` if no measured image is in the group.
    """
    return share_right(GROUP_ACCURACY, predictions, _members(predictions, by, group))


def worst_group(predictions: Predictions, *, by: str, least: int | None = None) -> Measurement:
    """Return the accuracy, in [0, 1], of the worst group with at least `least` images.

    `n` counts the images of all these groups, and is the same for every model. The interval is Wilson's for the group's
    own images (Wilson 1927), without a correction for the selection. Raises as `group_accuracy` does, and
    `NotApplicableError` for fewer than two groups.
    """
    groups = _served(predictions, by, least)
    worst = min(groups, key=lambda one: one.accuracy)
    return Measurement(
        WORST_GROUP_ACCURACY,
        worst.accuracy,
        sum(one.n for one in groups),
        worst.interval,
        detail=f"worst of {len(groups)} groups by {by}: {worst.name}, {worst.n} images",
        failures=_failures(predictions, by, worst),
        counted=worst.n,
    )


def group_gap(predictions: Predictions, *, by: str, least: int | None = None) -> Measurement:
    """Return the difference in accuracy, in [0, 1], between the best and the worst group, see `worst_group`.

    The interval is that of a difference of two independent proportions (Newcombe 1998, method 10), within [0, 1].
    """
    groups = _served(predictions, by, least)
    worst, best = (
        min(groups, key=lambda one: one.accuracy),
        max(groups, key=lambda one: one.accuracy),
    )
    gap = best.accuracy - worst.accuracy
    (low, high), (lower, upper) = best.interval, worst.interval
    down = math.hypot(best.accuracy - low, upper - worst.accuracy)
    up = math.hypot(high - best.accuracy, worst.accuracy - lower)
    detail = f"{best.name} {best.accuracy:.1%} of {best.n}, {worst.name} {worst.accuracy:.1%} of {worst.n} images"
    interval, n = (max(gap - down, 0.0), min(gap + up, 1.0)), sum(one.n for one in groups)
    return Measurement(
        GROUP_GAP, gap, n, interval, detail=detail, failures=_failures(predictions, by, worst)
    )


def group_difference(
    predictions: Predictions, *, by: str, group: str, paired_by: str | None = None
) -> Measurement:
    """Return the mean probability of the label on the images of one group, less that on all others, in [-1, 1].

    Both means move alike if a whole network is surer, or less sure. The images of a pair, equal in the column
    `paired_by`, show the same thing, such as one scene by two cameras. With it, the value is the mean over the pairs
    that have images on both sides, and `n` their number. Without, `n` is the number of the group's images. Raises
    `InputError` and `NotApplicableError` as `group_accuracy` does, and `NotApplicableError` for predictions without all
    probabilities and for a group without others.
    """
    chosen = _members(predictions, by, group)
    pairs = None if paired_by is None else selection.column(predictions, paired_by)
    return _difference(GROUP_DIFFERENCE, predictions, chosen, group, pairs)


def class_difference(predictions: Predictions, *, of_class: str) -> Measurement:
    """Return the mean probability of the label on the images of one class, less that on all others, in [-1, 1].

    It is as `group_difference` without pairs. Raises `InputError` for a class that the data lack.
    """
    chosen = selection.of_class(predictions, of_class)
    if not chosen.any():
        raise NotApplicableError(f"none of the {len(chosen)} images is of class {of_class!r}")
    return _difference(CLASS_DIFFERENCE, predictions, chosen, of_class)


def _difference(
    metric: Metric,
    predictions: Predictions,
    chosen: np.ndarray,
    named: str,
    pairs: np.ndarray | None = None,
) -> Measurement:
    if pairs is None and chosen.all():
        raise NotApplicableError(
            f"all {len(chosen)} images are of {named!r}, so there are no others to compare with"
        )
    labels, error = predictions.labels, math.inf  # Unknown for one image or pair.
    sure = np.asarray(predictions.probabilities[np.arange(len(labels)), labels], dtype=np.float64)
    if pairs is None:
        own, others = sure[chosen], sure[~chosen]
        n, rest = len(own), len(others)
        # Each of the n images takes its part of the others. The n contributions then have the variance of both sides.
        each = own - np.bincount(np.arange(rest) % n, others, minlength=n) * (n / rest)
        if min(n, rest) > 1:
            error = math.sqrt(own.var(ddof=1) / n + others.var(ddof=1) / rest)
        detail = f"{named} {own.mean():.1%} of {n}, others {others.mean():.1%} of {rest} images"
    else:
        members = np.unique(pairs, return_inverse=True)[1]
        sums, counts = (
            np.stack(
                [
                    np.bincount(members[side], of[side], minlength=members.max() + 1)
                    for side in (chosen, ~chosen)
                ]
            )
            for of in (sure, np.ones(len(sure)))
        )
        both = np.asarray((counts > 0).all(axis=0))
        if not both.any():
            raise NotApplicableError(
                f"no image of group {named!r} has another one of its pair outside of the group"
            )
        own, others = sums[:, both] / counts[:, both]
        each, n, chosen = own - others, int(both.sum()), chosen & both[members]
        if n > 1:
            error = float(each.std(ddof=1)) / math.sqrt(n)
        detail = f"{named} {own.mean():.1%}, others {others.mean():.1%} of {n} pairs"
    value, (low, high) = float(each.mean()), metric.range
    interval = (max(value - Z95 * error, low), min(value + Z95 * error, high))
    failures = selection.likely_most_confident(predictions, ~predictions.correct & chosen)
    return Measurement(metric, value, n, interval, detail=detail, failures=failures, each=each)


def _members(predictions: Predictions, by: str, group: str) -> np.ndarray:
    chosen = np.asarray(selection.column(predictions, by) == group)
    if not chosen.any():
        raise NotApplicableError(
            f"none of the {len(chosen)} measured images is of group {group!r} by {by!r}"
        )
    return chosen


def _served(predictions: Predictions, by: str, least: int | None) -> list[_Served]:
    names, members, counts = np.unique(
        selection.column(predictions, by), return_inverse=True, return_counts=True
    )
    right = np.bincount(members, weights=predictions.correct).astype(int)
    served = [
        _Served(str(name), n, hits, hits / n, proportion_interval(hits, n))
        for name, n, hits in zip(names, counts.tolist(), right.tolist(), strict=True)
        if n >= (least or 1)
    ]
    if len(served) < 2:  # noqa: PLR2004  A single group has no worst.
        of = f" of at least {least} images" if least else ""
        raise NotApplicableError(
            f"by {by!r} the measured images have {len(served)} groups{of}, expected at least two"
        )
    return served


def _failures(predictions: Predictions, by: str, group: _Served) -> np.ndarray:
    return selection.likely_most_confident(
        predictions, ~predictions.correct & (selection.column(predictions, by) == group.name)
    )
